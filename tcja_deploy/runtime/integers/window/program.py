"""Window programs: attention of any kind as a short list of integer steps with proven bounds.

numpy only and without imports of its own package, because this file also travels in Lava bundles, where a process
executes it under another Python. A program is data, never code: a JSON description and a set of integer arrays.

    {"inputs": [{"shape": [T, C, H, W], "low": 0, "high": 1}],
     "steps": [{"op": "sum", "inputs": [0], "axes": [2, 3]}, {"op": "convolve", "inputs": [1], "weight": "w0", ...}]}

The first values are the windows of payloads that go in, then comes one for each step; the last one is the result.
Values have no axis of samples; `run` carries one in front. T = 1 makes a program that needs no window and runs once per step.

Every step states the interval in which its results lie, given those of its inputs, and the largest magnitude that a partial
sum or product reaches on the way. A program whose magnitudes reach `LIMIT` is refused, so 64-bit integers never overflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kernels import ConvolveStep, LargestPoolStep, SumPoolStep  # relative, for this folder travels
from .steps import (
    LIMIT,
    MOST_AXES,
    AddStep,
    ClipStep,
    ConcatStep,
    ConstantStep,
    IntArray,
    LargestStep,
    MultiplyStep,
    PartStep,
    PermuteStep,
    ProgramStep,
    RescaleStep,
    ReshapeStep,
    Shape,
    SumStep,
    TableStep,
    require,
)

__all__ = ["OPS", "Program"]

MOST_ELEMENTS, MOST_STEPS, MOST_INPUTS = 1 << 28, 500, 4

OPS: dict[str, type[ProgramStep]] = {
    "sum": SumStep,
    "max": LargestStep,
    "permute": PermuteStep,
    "reshape": ReshapeStep,
    "concat": ConcatStep,
    "part": PartStep,
    "convolve": ConvolveStep,
    "add": AddStep,
    "multiply": MultiplyStep,
    "constant": ConstantStep,
    "clip": ClipStep,
    "rescale": RescaleStep,
    "table": TableStep,
    "max_pool": LargestPoolStep,
    "sum_pool": SumPoolStep,
}
"""The closed list of steps by their names."""


class Program:
    """A checked program.

    Args:
        description: What `json` reads: `inputs` and `steps`, as the module describes them.
        arrays: Integer arrays by the names that steps use.

    Attributes:
        description: As given.
        arrays: As given, as int64.
        inputs: How many there are.
        shapes: Of every value, without the axis of samples.
        bounds: Smallest and largest of every value.
        magnitudes: Largest magnitude that a step reaches on the way, by value; below `LIMIT`.

    Raises:
        ValueError: A description that is not a program, or one whose values could overflow.
    """

    def __init__(self, description: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        require(set(description) == {"inputs", "steps"}, "a program has inputs and steps")
        inputs, steps = description["inputs"], description["steps"]
        require(
            isinstance(inputs, list) and 0 < len(inputs) <= MOST_INPUTS,
            f"no or more than {MOST_INPUTS} inputs",
        )
        require(
            isinstance(steps, list) and 0 < len(steps) <= MOST_STEPS, f"no or more than {MOST_STEPS} steps"
        )
        require(
            all(np.can_cast(a.dtype, np.int64) for a in arrays.values()),
            "arrays hold integers of up to 64 bits",
        )
        self.description, self.arrays = description, {k: np.asarray(a, np.int64) for k, a in arrays.items()}
        self.shapes: list[Shape] = []
        self.bounds: list[tuple[int, int]] = []
        self.magnitudes: list[int] = []
        for entry in inputs:
            require(
                isinstance(entry, dict) and set(entry) == {"shape", "low", "high"},
                "an input has shape, low, high",
            )
            shape, (low, high) = (
                _numbers(entry["shape"], "shape"),
                (_number(entry[k], k) for k in ("low", "high")),
            )
            require(0 < len(shape) <= MOST_AXES and min(shape) > 0, f"a window of {shape}")
            require(
                -LIMIT < low <= high < LIMIT and prod(shape) <= MOST_ELEMENTS, f"payloads of {low}..{high}"
            )
            self._value(shape, (low, high), max(abs(low), abs(high)))
        self.inputs = len(inputs)
        self._steps: list[tuple[ProgramStep, tuple[int, ...]]] = []
        for step in steps:
            try:
                self._add(step)
            except (TypeError, ValueError) as error:
                raise ValueError(f"step {len(self._steps)}: {error}") from None
        readers = {i: k for k, (_, inputs) in enumerate(self._steps) for i in inputs}
        self._last_use = [[i for i, k in readers.items() if k == step] for step in range(len(self._steps))]

    def _add(self, step: Mapping[str, Any]) -> None:
        require(isinstance(step, dict) and step.get("op") in OPS, "there is no such op")
        kind = OPS[step["op"]]
        inputs = _numbers(step.get("inputs"), "inputs")
        count = len(inputs)
        require(count == max(kind.arity, 0) if kind.arity else count > 1, f"{step['op']} of {count} inputs")
        require(all(0 <= i < len(self.shapes) for i in inputs), f"inputs {inputs} are not there yet")
        settings = {name: value for name, value in step.items() if name not in ("op", "inputs")}
        named = {f.name for f in fields(kind)}
        require(
            set(settings) == named, f"{step['op']} has the settings {sorted(named)}, not {sorted(settings)}"
        )
        op = kind(**{f.name: self._setting(f.type, settings[f.name], f.name) for f in fields(kind)})
        shapes = [self.shapes[i] for i in inputs]
        shape = op.shape(*shapes)
        require(prod(shape) <= MOST_ELEMENTS, f"a value of {shape} is too large")
        low, high, magnitude = op.bounds(*(self.bounds[i] for i in inputs), shapes=shapes)
        require(magnitude < LIMIT, f"{step['op']} could reach {magnitude}, beyond 62 bits")
        self._steps.append((op, inputs))
        self._value(shape, (int(low), int(high)), int(magnitude))

    def _value(self, shape: Shape, bounds: tuple[int, int], magnitude: int) -> None:
        self.shapes.append(shape)
        self.bounds.append(bounds)
        self.magnitudes.append(magnitude)

    def _setting(self, kind: Any, value: Any, name: str) -> Any:
        if kind == "int":
            return _number(value, name)
        if kind == "IntArray":
            require(isinstance(value, str) and value in self.arrays, f"there is no array for {name}")
            return self.arrays[value]
        return _numbers(value, name)

    @property
    def frames(self) -> int:
        """T."""
        return self.shapes[0][0]

    @property
    def bits(self) -> list[int]:
        """Bits of every value, the sign included where there is one."""
        return [max(abs(low), abs(high)).bit_length() + (low < 0) for low, high in self.bounds]

    def run(self, *windows: NDArray[np.integer[Any]]) -> IntArray:
        """Result [B, T, ...] of windows [B, T, ...]; payloads have to lie within the bounds of their input.

        Raises:
            ValueError: Windows of another shape or number, or payloads beyond the bounds.
        """
        require(len(windows) == self.inputs, f"{len(windows)} windows for {self.inputs} inputs")
        values: dict[int, IntArray] = {}
        for number, window in enumerate(windows):
            shape, (low, high) = self.shapes[number], self.bounds[number]
            require(window.shape[1:] == shape, f"windows of {window.shape}, not [B, *{shape}]")
            within = not window.size or (int(window.min()) >= low and int(window.max()) <= high)
            require(within, f"payloads beyond {low}..{high}")
            values[number] = np.asarray(window, np.int64)
        for number, (op, inputs) in enumerate(self._steps):
            values[self.inputs + number] = op.run(*(values[i] for i in inputs))
            for i in self._last_use[number]:
                del values[i]
        result = values[self.inputs + len(self._steps) - 1]
        return np.ascontiguousarray(np.broadcast_to(result, (len(windows[0]), *self.shapes[-1])))


def _number(value: Any, name: str) -> int:
    require(isinstance(value, int) and not isinstance(value, bool), f"{name} is not an integer")
    return int(value)


def _numbers(value: Any, name: str) -> Shape:
    require(isinstance(value, list | tuple) and len(value) <= 64, f"{name} is not a list of integers")
    return tuple(_number(v, name) for v in value)
