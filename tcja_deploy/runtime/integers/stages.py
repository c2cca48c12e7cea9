"""Stages of an integer network that read named inputs: the graph form of what Loihi-style hardware computes.

Every stage has a `name` and `inputs`, the names of the stages it reads (`HOST` for the frames that the host sends). Values on
edges are integers of one of three kinds (`Edge`): spikes, unsigned payloads, signed payloads. With frames t of a window
(from 0), all integers, `>>` an arithmetic shift (floor), `dec(s, d) = sign(s) * ((|s| * (4096 - d)) >> 12)` and M = 2**23:

    SynapseStage   a[t] = sum of weight * x[t];  convolutions wrap to 24 bits: (a + M) mod 2M - M, dense sums do not
    NeuronStage    a = sum of all inputs
                   u[t] = dec(u[t-1], i_decay) + 64 a[t];      once: u > M: u -= 2M;  u <= -M: u += 2M
                   v[t] = clip(dec(v[t-1], v_decay) + u[t] + 64 bias, -M+1, M-1)
                   s[t] = 1 if v[t] > 64 threshold else 0
                   where s[t] = 1:  "zero"      v[t] = 64 reset_value
                                    "subtract"  v[t] = v[t] - drop
    RelayStage     y[t] = ((sum of all inputs + bias) * multiplier + ((1 << shift) >> 1)) >> shift
                   decay None:  out[t] = clip(y[t]);   otherwise  out[t] = v[t] = clip(dec(v[t-1], decay) + y[t])
                   with clip to -(2**(bits-1) - 1) .. 2**(bits-1) - 1
    ProgramStage   out[0..T-1] = program(in[0..T-1]) for each window of `frames` frames (1: frame by frame)

States (u, v) are zero at the start of each window. Several inputs of one stage are added, except a program's.
In time, a synapse takes one step, a program `frames` - 1, neurons and relays none (`tcja_deploy.exporters.lava.schedule`);
windows are aligned by delays, so that nothing here depends on time steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import GraphError
from tcja_deploy.runtime.integers.window.program import Program

__all__ = [
    "HOST",
    "MESSAGE_BITS",
    "UNITY",
    "Edge",
    "EdgeKind",
    "IntArray",
    "NeuronStage",
    "Pair",
    "ProgramStage",
    "RelayStage",
    "SynapseStage",
    "stage_error",
]

IntArray = NDArray[np.int64]
Pair = tuple[int, int]
EdgeKind = Literal["spike", "unsigned", "signed"]

UNITY = 4096
"""The integer that stands for a decay of one: i_decay = 4096 forgets at once, 0 never."""
HOST = ":host"
"""The name of the input that reads the frames that the host sends; no stage has this name."""
MESSAGE_BITS = 24
"""Bits of a signed payload: Lava's convolutions wrap their sums there."""


def stage_error(name: str, reason: str) -> GraphError:
    """The error for an impossible stage."""
    return GraphError(reason, where=name)


@dataclass(frozen=True, slots=True)
class Edge:
    """What travels from one stage to those that read it.

    Attributes:
        kind: Spikes (0 and 1), payloads that are never negative, or signed payloads.
        shape: Shape of one frame: `[C, H, W]` or `[n]`.
        unit: The number that stands for one of the float network: 1 for spikes, an integer for payloads, real for signed
            streams.
        peak: Proven bound on the magnitude of a value.
    """

    kind: EdgeKind
    shape: tuple[int, ...]
    unit: float
    peak: int

    @property
    def bits(self) -> int:
        """Bits of a message, sign included where there is one."""
        return self.peak.bit_length() + (self.kind == "signed")


@dataclass(frozen=True, slots=True, eq=False)
class SynapseStage:
    """A linear map of one input without neurons; its sums are added to others in a neuron or a relay.

    Attributes:
        name: Unique name.
        inputs: The one stage it reads.
        kind: "conv", "dense", or "transposed" (a transposed convolution).
        in_shape: `[C, H, W]`, or `[n]` for dense; dense flattens `[C, H, W]` in this order.
        weight: `[O, I/groups, kH, kW]` for conv, `[O, n]` for dense, `[I, O/groups, kH, kW]` for transposed, as PyTorch has
        it.
        unit: The integer that stands for one in its sums.
        stride: Rows and columns, as are padding, dilation and output_padding.
        padding: As in PyTorch.
        dilation: Distance of the kernel's taps.
        output_padding: Rows and columns added at the end of a transposed convolution.
        groups: As in PyTorch.
    """

    name: str
    inputs: tuple[str, ...]
    kind: Literal["conv", "dense", "transposed"]
    in_shape: tuple[int, ...]
    weight: IntArray
    unit: float
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    output_padding: Pair = (0, 0)
    groups: int = 1

    def __post_init__(self) -> None:
        weight, spatial = self.weight, self.kind != "dense"
        if len(self.inputs) != 1:
            raise stage_error(self.name, "a synapse reads one stage")
        if min(self.groups, *self.stride, *self.dilation, *self.in_shape, weight.size) < 1:
            raise stage_error(self.name, "groups, stride, dilation and sizes are positive")
        if min(*self.padding, *self.output_padding) < 0 or not self.unit > 0:
            raise stage_error(self.name, "padding is not negative, the unit positive")
        if weight.ndim != (4 if spatial else 2) or len(self.in_shape) not in ((3,) if spatial else (1, 3)):
            raise stage_error(self.name, f"{self.kind} weight {weight.shape} does not fit {self.in_shape}")
        takes = {
            "conv": weight.shape[1] * self.groups,
            "transposed": weight.shape[0],
            "dense": weight.shape[1],
        }[self.kind]
        has = self.in_shape[0] if spatial else prod(self.in_shape)
        if takes != has or weight.shape[0] % self.groups:
            raise stage_error(
                self.name, f"weight {weight.shape} with {self.groups} groups does not fit {self.in_shape}"
            )
        if self.kind != "transposed" and any(self.output_padding):
            raise stage_error(self.name, "only transposed convolutions have an output padding")
        if min(self.out_shape) < 1:
            raise stage_error(self.name, f"the output would be empty: {self.out_shape}")

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one frame of sums: `[O, H', W']`, or `[O]` for dense."""
        weight = self.weight
        if self.kind == "dense":
            return (weight.shape[0],)
        axes = zip(
            self.in_shape[1:], weight.shape[2:], self.stride, self.padding, self.dilation,
            self.output_padding, strict=True,
        )  # fmt: skip
        if self.kind == "conv":
            return (weight.shape[0], *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d, _ in axes))
        size = ((n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, k, s, p, d, o in axes)
        return (weight.shape[1] * self.groups, *size)

    @property
    def fan_sums(self) -> tuple[IntArray, IntArray]:
        """Per output channel, bounds on the sum of the positive and of the negated negative weights, each `[O]`."""
        weight = self.weight
        if self.kind == "transposed":  # an upper bound: as if every output met every tap
            depth = weight.shape[0] // self.groups
            weight = weight.reshape(self.groups, depth, *weight.shape[1:]).swapaxes(1, 2)
            weight = weight.reshape(-1, depth, *weight.shape[3:])
        flat = weight.reshape(weight.shape[0], -1)
        return np.maximum(flat, 0).sum(1), -np.minimum(flat, 0).sum(1)


@dataclass(frozen=True, slots=True, eq=False)
class NeuronStage:
    """A population of neurons that adds the values of several stages.

    With i_decay = v_decay = 4096 it is threshold logic: the sum of two spikes beyond 1 is AND, beyond 0 OR.

    Attributes:
        name: Unique name, that of the neuron in the model it came from.
        inputs: The stages whose values are added.
        shape: Shape of one frame.
        bias: `[C]`, in units of the threshold.
        threshold: `[]` or `[C]`.
        v_decay: Voltage decay, 0..4096.
        i_decay: Current decay, 0..4096.
        reset: What a spike does to the voltage. "subtract" is not a process of Loihi 1, nor is a reset value.
        reset_value: Voltage after a spike, in units of the threshold; 0 where `reset` is "subtract".
        drop: What "subtract" takes off, in units of the voltage (1/64 unit of the threshold).
    """

    name: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    bias: IntArray
    threshold: IntArray
    v_decay: int = UNITY
    i_decay: int = UNITY
    reset: Literal["zero", "subtract"] = "zero"
    reset_value: int = 0
    drop: int = 0

    def __post_init__(self) -> None:
        channels = (self.shape[0],) if self.shape else ()
        if not self.inputs or len(self.shape) not in (1, 3) or min(self.shape) < 1:
            raise stage_error(self.name, f"a population of {self.shape} needs inputs and a shape")
        if self.bias.shape != channels or self.threshold.shape not in ((), channels):
            raise stage_error(
                self.name, f"bias {self.bias.shape} or threshold {self.threshold.shape} misses the channels"
            )
        if not (0 <= self.v_decay <= UNITY and 0 <= self.i_decay <= UNITY):
            raise stage_error(self.name, f"decays {self.v_decay} and {self.i_decay} must be in 0..{UNITY}")
        if (self.drop > 0) != (self.reset == "subtract") or (self.reset_value and self.drop):
            raise stage_error(self.name, "a soft reset subtracts a positive drop, a hard one has no drop")

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one frame of spikes."""
        return self.shape

    @property
    def stock(self) -> bool:
        """Whether Lava's own LIF computes it."""
        return self.reset == "zero" and not self.reset_value


@dataclass(frozen=True, slots=True, eq=False)
class RelayStage:
    """Adds its inputs and sends the sum on as a signed graded spike, without a threshold.

    Attributes:
        name: Unique name.
        inputs: The stages whose values are added.
        shape: Shape of one frame.
        bias: `[C]`, in units of the sum.
        unit: The integer that stands for one in what it sends.
        bits: Bits of what it sends, sign included, at most 24; larger values are cut off (and counted).
        multiplier: Integer factor; may be negative.
        shift: Bits that are shifted out, rounded half up.
        decay: Leak of a membrane in 1/4096 (a leaky integrator), or None for no memory.
    """

    name: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    bias: IntArray
    unit: float
    bits: int = MESSAGE_BITS
    multiplier: int = 1
    shift: int = 0
    decay: int | None = None

    def __post_init__(self) -> None:
        if not self.inputs or len(self.shape) not in (1, 3) or min(self.shape) < 1:
            raise stage_error(self.name, f"a relay of {self.shape} needs inputs and a shape")
        if self.bias.shape != (self.shape[0],):
            raise stage_error(self.name, f"bias {self.bias.shape} misses the channels")
        if not 2 <= self.bits <= MESSAGE_BITS or not 0 <= self.shift <= 31 or not self.unit > 0:
            raise stage_error(
                self.name, f"{self.bits} bits, shift {self.shift} or unit {self.unit} is not possible"
            )
        if not 0 < abs(self.multiplier) < 1 << 24:
            raise stage_error(self.name, f"the factor {self.multiplier} does not fit 24 bits")
        if self.decay is not None and not 0 <= self.decay <= UNITY:
            raise stage_error(self.name, f"the decay {self.decay} must be in 0..{UNITY}")

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one frame of payloads."""
        return self.shape

    @property
    def most(self) -> int:
        """Largest magnitude of what it sends."""
        return (1 << (self.bits - 1)) - 1


@dataclass(frozen=True, slots=True, eq=False)
class ProgramStage:
    """Integer arithmetic over a window (attention of any family), in a process of its own.

    Attributes:
        name: Unique name.
        inputs: The stages it reads, in the order of the program's inputs.
        program: The program, which twin and process share. Its inputs and its result are windows `[T, *frame]`; with T = 1 it
            needs no window, and so takes no time.
        unit: The integer that stands for one in the result.
    """

    name: str
    inputs: tuple[str, ...]
    program: Program
    unit: float

    def __post_init__(self) -> None:
        shapes = (*self.program.shapes[: self.program.inputs], self.program.shapes[-1])
        if len(self.inputs) != self.program.inputs:
            raise stage_error(
                self.name, f"reads {len(self.inputs)} stages, its program {self.program.inputs}"
            )
        if {shape[0] for shape in shapes} != {self.frames} or min(map(len, shapes)) < 2:
            raise stage_error(self.name, f"windows of {shapes} are not all frames of one window")
        if not self.unit > 0 or not 0 < self.peak < 1 << 31:
            raise stage_error(self.name, f"unit {self.unit} or peak {self.peak} is not possible")

    @property
    def frames(self) -> int:
        """T, or 1 where it runs frame by frame."""
        return self.program.frames

    @property
    def in_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of one frame of each input."""
        return tuple(shape[1:] for shape in self.program.shapes[: self.program.inputs])

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one frame of the result."""
        return self.program.shapes[-1][1:]

    @property
    def kind(self) -> EdgeKind:
        """Kind of the result."""
        low, high = self.program.bounds[-1]
        return "signed" if low < 0 else "spike" if high == 1 and self.unit == 1 else "unsigned"

    @property
    def peak(self) -> int:
        """Proven bound on the magnitude of the result."""
        return max(map(abs, self.program.bounds[-1]))
