"""Building blocks of step models: states, clocks, delays, windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tcja_deploy.ir import Dim, Signal
from tcja_deploy.runtime.onnx.emitter import Emitter

__all__ = ["Parts", "StepClock", "StepState", "frame_shape"]

_TYPES = {"float32": TensorProto.FLOAT, "bool": TensorProto.BOOL, "int64": TensorProto.INT64}


def frame_shape(signal: Signal, T: int) -> tuple[Dim, ...]:
    """Shape of one frame of a stream, or of a value without a time axis; N stays symbolic."""
    return tuple(T if d == "T" else d for d in signal.dims[1 if signal.streams else 0 :])


@dataclass(frozen=True)
class StepState:
    """One tensor that a step model passes to its next step.

    Attributes:
        name: Name of the input; the output is called `name + ".next"`.
        shape: Lengths of the axes, one of which may be `"N"`.
        dtype: Name of its NumPy type.
        value: The number that fills it before the first frame.
    """

    name: str
    shape: tuple[Dim, ...]
    dtype: str
    value: float

    @property
    def next(self) -> str:
        """Name of the output."""
        return f"{self.name}.next"

    @property
    def onnx_type(self) -> int:
        """Element type in ONNX."""
        return int(_TYPES[self.dtype])

    def initial(self, samples: int) -> NDArray[np.generic]:
        """The state before the first frame."""
        return np.full([d if isinstance(d, int) else samples for d in self.shape], self.value, self.dtype)


@dataclass(frozen=True)
class StepClock:
    """Names of the tensors that hold the step within a window, for everything that begins at the same step.

    Attributes:
        t: Index of the step, 0 to T - 1 (int64).
        first: Whether it is the first step (bool).
        last: Whether it is the last step (bool).
    """

    t: str
    first: str
    last: str


class Parts:
    """States, clocks and outputs of one step model.

    Args:
        e: The emitter to which nodes are added.
        outputs: Names reserved for the outputs.
        warm_up: Number of steps before the first result.
    """

    def __init__(self, e: Emitter, outputs: Sequence[str], warm_up: int) -> None:
        self.e = e
        for name in outputs:
            e.unique(name)
        self._states: list[StepState] = []
        self._next: dict[str, str] = {}
        self._clocks: dict[int, StepClock] = {}
        self.step, advance = self.state("step", (), dtype="int64")
        # The counter runs to the end of the warm-up and then cycles within one window.
        top = warm_up + e.T
        following = e.node("Add", [self.step, self._number(1)], "step/following")
        wraps = e.node("Equal", [following, self._number(top)], "step/wraps")
        advance(e.node("Where", [wraps, self._number(top - e.T), following], "step/wrapped"))

    def _number(self, value: int) -> str:
        return self.e.constant(np.array(value, np.int64), f"number_{value}")

    def _axis(self, values: Sequence[int]) -> str:
        return self.e.constant(np.array(values, np.int64), "list_" + "_".join(map(str, values)))

    def state(
        self, name: str, shape: Sequence[Dim], *, dtype: str = "float32", initial: float = 0.0
    ) -> tuple[str, Callable[[str], None]]:
        """A new state: the name of its tensor, and a function to which the name of its successor is passed."""
        free = self.e.unique(name)
        while self.e.unique(f"{free}.next") != f"{free}.next":  # some layer has that name
            free = self.e.unique(name)
        state = StepState(free, tuple(shape), dtype, initial)
        self._states.append(state)
        return state.name, lambda following: self._next.update({state.name: following})

    def output(self, name: str, tensor: str) -> None:
        """Make a tensor the output of this reserved name."""
        self.e.nodes.append(helper.make_node("Identity", [tensor], [name], name=f"{name}:Identity"))

    def finish(self) -> tuple[StepState, ...]:
        """Make the successors of all states outputs, and return all states."""
        for state in self._states:
            self.output(state.next, self._next[state.name])
        return tuple(self._states)

    # -- time ------------------------------------------------------------------------------------------------
    def since(self, start: int) -> str:
        """Name of a bool: whether step `start` has been reached."""
        return self.e.node("GreaterOrEqual", [self.step, self._number(start)], f"begun_{start}")

    def clock(self, start: int) -> StepClock:
        """The clock of everything that begins at step `start`."""
        phase = start % self.e.T
        if phase not in self._clocks:
            e = self.e
            t = self.step
            if phase:
                t = e.node("Add", [t, self._number(e.T - phase)], f"clock_{phase}/shifted")
            t = e.node("Mod", [t, self._number(e.T)], f"clock_{phase}")
            first = e.node("Equal", [t, self._number(0)], f"clock_{phase}/first")
            last = e.node("Equal", [t, self._number(e.T - 1)], f"clock_{phase}/last")
            self._clocks[phase] = StepClock(t, first, last)
        return self._clocks[phase]

    def at(self, table: NDArray[np.float32], clock: StepClock, name: str) -> str:
        """Row `t` of a constant `[T, ...]`."""
        return self.e.node("Gather", [self.e.constant(table, f"{name}.table"), clock.t], name, axis=0)

    # -- memory ----------------------------------------------------------------------------------------------
    def restarted(self, x: str, clock: StepClock, name: str, rest: float = 0.0) -> str:
        """`x`, or its resting value in the first step of a window."""
        return self.e.node("Where", [clock.first, self.e.constant(float(rest), f"rest_{rest}"), x], name)

    def pushed(self, x: str, length: int, shape: Sequence[Dim], name: str, *, binary: bool = False) -> str:
        """`x` and its `length` predecessors, oldest first: `[length + 1, ...]`; a state holds `length` of them."""
        e = self.e
        if binary:
            x = e.node("Cast", [x], f"{name}/narrow", to=TensorProto.BOOL)
        newest = e.unsqueeze(x, [0], f"{name}/newest")
        if not length:
            return newest
        held, following = self.state(name, (length, *shape), dtype="bool" if binary else "float32")
        joined = e.node("Concat", [held, newest], f"{name}/joined", axis=0)
        following(self.rows(joined, 1, length + 1, f"{name}/kept"))
        return joined

    def rows(self, x: str, start: int, stop: int, name: str) -> str:
        """`x[start:stop]`."""
        bounds = [self._axis([start]), self._axis([stop]), self._axis([0])]
        return self.e.node("Slice", [x, *bounds], name)

    def row(self, x: str, index: int, name: str) -> str:
        """`x[index]`."""
        return self.e.node("Gather", [x, self._number(index)], name, axis=0)

    def delayed(self, x: str, steps: int, shape: Sequence[Dim], name: str, *, binary: bool = False) -> str:
        """`x` as it was some steps ago."""
        if not steps:
            return x
        oldest = self.row(self.pushed(x, steps, shape, name, binary=binary), 0, f"{name}/oldest")
        return self.e.node("Cast", [oldest], f"{name}/wide", to=TensorProto.FLOAT) if binary else oldest

    def window(self, x: str, late: int, shape: Sequence[Dim], name: str, *, binary: bool = False) -> str:
        """The T frames that end with the one `late` steps ago, `[T, ...]`."""
        T = self.e.T
        frames = self.pushed(x, T - 1 + late, shape, name, binary=binary)
        if late:
            frames = self.rows(frames, 0, T, f"{name}/complete")
        return self.e.node("Cast", [frames], f"{name}/wide", to=TensorProto.FLOAT) if binary else frames

    def latched(self, x: str, shape: Sequence[Dim], clock: StepClock, name: str) -> str:
        """`x` as it was in the first step of the window."""
        held, following = self.state(name, shape)
        kept = self.e.node("Where", [clock.first, x, held], f"{name}/latched")
        following(kept)
        return kept
