"""The base of all ops: one discrete-time rule each, with shape and kind inference and a reference step."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import GraphError
from tcja_deploy.ir.constants import conform, field_types
from tcja_deploy.ir.signal import Signal

__all__ = ["Array", "Frames", "Op", "State", "WindowState"]

Array = NDArray[np.float32]
"""Values and weights: all numbers of the IR are float32."""
Frames = tuple[Array, ...]
State = Any
"""State of an op between two steps: a tuple of arrays and numbers, never changed in place."""


@dataclass(frozen=True, slots=True)
class WindowState:
    """Frames held by an op that can only answer when its inputs are complete.

    Attributes:
        steps: Steps until then: `T`, or 1 if no input streams.
        streams: For each input whether it arrives frame by frame.
        emits: Whether the result is a stream of frames again.
        held: What has arrived, one tuple per step.
    """

    steps: int
    streams: tuple[bool, ...]
    emits: bool
    held: tuple[Frames, ...] = ()


@dataclass(frozen=True, eq=False)
class Op:
    """One operation of the IR.

    An op is a frozen record of its constants. It has two equivalent reference forms, both in plain NumPy:

    * `apply(*x) -> y` over a whole window (arrays shaped like the input signals), and
    * `step(frames, state) -> (frames, state)`: one frame of each streaming input goes in, the frames
      that became final with it come out (none, one, or several when a window ends).

    Subclasses without state implement `apply`; subclasses with state implement `initial_state` and `step`.
    Running `T` steps from the initial state equals `apply`.

    What an op is, its traits say, so that the stream, the energy count and the exporters ask the op and keep no
    lists of classes: `stateful`, `membrane`, `spiking`, `elementwise`, `moves_only`, `synaptic`, `map_axes` and
    `acts_on_time`.

    Raises:
        GraphError: If a constant is not of its field's type.
    """

    arity: ClassVar[int | None] = 1
    """Number of inputs; `None` for any number from two."""
    stateful: ClassVar[bool] = False
    """Whether the op carries a state of its own from frame to frame: true of every subclass that defines
    `initial_state`, so that it cannot be forgotten. Evaluating such an op on single frames would lose its state."""
    membrane: ClassVar[bool] = False
    """Whether that state is a membrane, as large as a frame of the result and updated once per step: neurons and
    integrators. One frame in, one frame out, and the output of a step depends on no later input."""
    elementwise: ClassVar[bool] = False
    """Whether each element of the result is computed, without weights or state, from the elements of the inputs at
    the same place (after broadcasting)."""
    moves_only: ClassVar[bool] = False
    """Whether the result holds the elements of the inputs, unchanged, at other places or under other axes."""
    synaptic: ClassVar[bool] = False
    """Whether the op is a layer of synapses: constants `weight` and `bias` (or `None`), `macs` above 0, and
    an input element of 0 contributes nothing."""
    map_axes: ClassVar[int] = 0
    """For a synaptic op: how many trailing axes of the result are positions that share the weights (2 for images,
    1 for sequences, 0 for dense layers)."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.stateful = cls.initial_state is not Op.initial_state

    def __post_init__(self) -> None:
        for name, hint in field_types(type(self)).items():
            try:
                object.__setattr__(self, name, conform(getattr(self, name), hint))
            except ValueError as error:
                raise GraphError(f"{name}: {error}", where=type(self).__name__) from None

    @property
    def spiking(self) -> bool:
        """Whether the result is the spikes of neurons, of one size or a few: they are counted, compared and listed."""
        return False

    # -- types -----------------------------------------------------------------------------------------
    def faults(self) -> list[str]:
        """What is wrong with the constants, whatever the inputs; empty for a sound op."""
        return []

    def accepts(self, inputs: int) -> bool:
        """Whether the op can have this many inputs."""
        return inputs >= 2 if self.arity is None else inputs == self.arity

    def infer(self, *inputs: Signal, T: int) -> Signal:
        """Signal of the result, for an op without faults and as many inputs as it accepts.

        Raises:
            GraphError: If the inputs do not fit the op.
        """
        raise NotImplementedError

    def macs(self, *inputs: Signal, T: int) -> int:
        """Dense multiply-accumulates of one window and sample, padding counted; 0 for an op without weights."""
        return 0

    # -- time ------------------------------------------------------------------------------------------
    def acts_on_time(self, *inputs: Signal) -> bool:
        """Whether an output frame depends on more than the input frames of the same step (a membrane aside)."""
        return not all(s.streams for s in inputs)

    def lookahead(self, *inputs: Signal, T: int) -> int:
        """How many later input frames the first output frame needs; 0 means causal."""
        return T - 1 if self.acts_on_time(*inputs) and any(s.streams for s in inputs) else 0

    # -- reference semantics ---------------------------------------------------------------------------
    def apply(self, *x: Array) -> Array:
        """Result over a whole window; arrays are shaped like the input signals."""
        raise NotImplementedError

    def initial_state(self, *inputs: Signal, T: int, N: int) -> State:
        """State before the first frame of a window of `T` steps and `N` samples."""
        if not self.acts_on_time(*inputs):
            return ()
        streams = tuple(s.streams for s in inputs)
        return WindowState(T if any(streams) else 1, streams, self.infer(*inputs, T=T).streams)

    def step(self, frames: Frames, state: State) -> tuple[Frames, State]:
        """Consume one frame `[N, ...]` of each input; return the output frames that became final, and the new state.

        An input that does not stream is complete at once: it is passed with every frame of the others.
        """
        if not isinstance(state, WindowState):
            return (self.apply(*(f[None] for f in frames))[0],), state
        held = (*state.held, frames)
        if len(held) < state.steps:
            return (), replace(state, held=held)
        columns = zip(zip(*held, strict=True), state.streams, strict=True)
        y = self.apply(*(np.stack(column) if streams else column[-1] for column, streams in columns))
        return (tuple(y) if state.emits else (y,)), replace(state, held=())

    # -- constants -------------------------------------------------------------------------------------
    def constants(self) -> dict[str, Any]:
        """All fields by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def parameters(self) -> int:
        """Number of stored weights."""
        return sum(v.size for v in self.constants().values() if isinstance(v, np.ndarray))

    @staticmethod
    def _require(condition: bool, reason: str) -> None:
        if not condition:
            raise GraphError(reason)

    @staticmethod
    def _below(least: int, **constants: int | tuple[int, ...]) -> list[str]:
        """A fault for each constant that holds a number below `least`."""
        found = []
        for name, value in constants.items():
            if min(value if isinstance(value, tuple) else (value,), default=least) < least:
                found.append(f"{name} = {value} is below {least}")
        return found
