"""Spiking neurons: charge, fire, reset, one rule each."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from tcja_deploy.errors import GraphError
from tcja_deploy.ir.op import Array, Frames, Op, State
from tcja_deploy.ir.ops.numeric import float32
from tcja_deploy.ir.signal import Kind, Signal
from tcja_deploy.unsupported import Unsupported

__all__ = ["IF", "LIF", "PLIF", "AffineCharge", "AffineNeuron", "Neuron"]


@dataclass(frozen=True, eq=False)
class Neuron(Op):
    """Charge `H[t] = charge(X[t], V[t-1])`, fire `S[t]`, reset `V[t]`, in this order. Result kind: binary.

    Fire: `S[t] = 1 if H[t] >= v_threshold` (`>` if `strict`) else 0.
    Hard reset (`v_reset` a number): `V[t] = v_reset S[t] + (1 - S[t]) H[t]`.
    Soft reset (`v_reset` is `None`): `V[t] = H[t] - S[t] v_threshold` (`lowered_by`).
    Before the first frame `V = v_reset`, or 0 with soft reset. All in float32, as SpikingJelly 2 computes it.

    Attributes:
        v_threshold: Firing threshold.
        v_reset: Membrane after a spike, or `None` for soft reset.
        strict: Fire above the threshold only, not at it.
    """

    membrane: ClassVar[bool] = True

    v_threshold: float = 1.0
    v_reset: float | None = 0.0
    strict: bool = False

    @property
    def v_rest(self) -> float:
        """Membrane before the first frame, which is also where the leak pulls to."""
        return 0.0 if self.v_reset is None else self.v_reset

    @property
    def spiking(self) -> bool:
        return True

    @property
    def lowered_by(self) -> float:
        """What a spike subtracts from the membrane with soft reset."""
        return self.v_threshold

    def charge(self, x: Array, v: Array) -> Array:
        """Membrane before the comparison, from input and previous membrane (both `[N, ...]`)."""
        raise NotImplementedError

    def faults(self) -> list[str]:
        if self.v_rest < self.v_threshold:
            return []
        return [f"the threshold {self.v_threshold} is not above the resting membrane {self.v_rest}"]

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        self._require(x.streams, f"a neuron needs a stream of frames [T, N, ...], got {x}")
        return x.with_kind(Kind.BINARY)

    def initial_state(self, *inputs: Signal, T: int, N: int) -> State:
        return (np.full(inputs[0].shape(T, N)[1:], self.v_rest, np.float32),)

    def step(self, frames: Frames, state: State) -> tuple[Frames, State]:
        threshold = np.float32(self.v_threshold)
        h = self.charge(frames[0], state[0])
        fired = h > threshold if self.strict else h >= threshold
        s = fired.astype(np.float32)
        lowered = h - s * np.float32(self.lowered_by)
        v = lowered if self.v_reset is None else np.where(fired, np.float32(self.v_reset), h)
        return (s,), (v,)

    def apply(self, *x: Array) -> Array:
        v, out = np.full_like(x[0][0], self.v_rest, dtype=np.float32), []
        for frame in x[0]:
            (s,), (v,) = self.step((frame,), (v,))
            out.append(s)
        return np.stack(out)


@dataclass(frozen=True, eq=False)
class LIF(Neuron):
    """Leaky integrate-and-fire.

    `decay_input`: `H[t] = V[t-1] + (X[t] - (V[t-1] - v_rest)) / tau`;
    otherwise `H[t] = V[t-1] - (V[t-1] - v_rest) / tau + X[t]`. Fire and reset as `Neuron`.

    Attributes:
        tau: Membrane time constant in time steps, > 1 in practice.
        decay_input: Whether the input is divided by `tau` as well.
    """

    tau: float = 2.0
    decay_input: bool = True

    def faults(self) -> list[str]:
        wrong = [] if self.tau >= 1 else [f"tau = {self.tau} is below 1"]
        return super().faults() + wrong

    def charge(self, x: Array, v: Array) -> Array:
        tau, leak = np.float32(self.tau), v - np.float32(self.v_rest)
        return float32(v + (x - leak) / tau if self.decay_input else v - leak / tau + x)


@dataclass(frozen=True, eq=False)
class PLIF(Neuron):
    """Parametric LIF: as `LIF`, with a learned leak `q = sigmoid(w) = 1 / tau`.

    It multiplies where `LIF` divides, and so rounds differently.
    `decay_input`: `H[t] = V[t-1] + (X[t] - (V[t-1] - v_rest)) q`;
    otherwise `H[t] = V[t-1] - (V[t-1] - v_rest) q + X[t]`. Fire and reset as `Neuron`.

    Attributes:
        decay: The leak `q` per time step, in (0, 1]; 1 if `sigmoid(w)` rounds to it.
        decay_input: Whether the input is multiplied by `q` as well.
    """

    decay: float = 0.5
    decay_input: bool = True

    def faults(self) -> list[str]:
        wrong = [] if 0 < self.decay <= 1 else [f"the decay {self.decay} is outside (0, 1]"]
        return super().faults() + wrong

    def charge(self, x: Array, v: Array) -> Array:
        q, leak = np.float32(self.decay), v - np.float32(self.v_rest)
        return float32(v + (x - leak) * q if self.decay_input else v - leak * q + x)


@dataclass(frozen=True, eq=False)
class IF(Neuron):
    """Integrate-and-fire: `H[t] = V[t-1] + X[t]`. Fire and reset as `Neuron`."""

    def charge(self, x: Array, v: Array) -> Array:
        return v + x


# -- the general neuron ----------------------------------------------------------------------------------------------------
def _one() -> Array:
    return np.ones(1, np.float32)


def _zero() -> Array:
    return np.zeros(1, np.float32)


@dataclass(frozen=True, eq=False)
class AffineCharge:
    """The charge `H[t] = max(a V[t-1] + b + g X[t], floor)`, computed as `((V a) + b) + (X g)`.

    `b = 0`, `g = 1` and no floor are left out, so that nothing is rounded that the source does not round.

    Attributes:
        leak: The factor `a` of the membrane: `[1]` for all neurons, or one per channel (`[C, 1, 1]` for frames
            `[C, H, W]`), or any shape that broadcasts to a frame.
        offset: `b`, of the same form.
        gain: The factor `g` of the input, of the same form.
        v_initial: The membrane `V` before the first frame.
        floor: Smallest value of `H`, or `None`.
    """

    leak: Array = field(default_factory=_one)
    offset: Array = field(default_factory=_zero)
    gain: Array = field(default_factory=_one)
    v_initial: float = 0.0
    floor: float | None = None

    @property
    def v_rest(self) -> float:
        """Membrane before the first frame, as all neurons call it."""
        return self.v_initial

    @property
    def has_offset(self) -> bool:
        """Whether `b` is added."""
        return bool(self.offset.any())

    @property
    def has_gain(self) -> bool:
        """Whether the input is multiplied."""
        return bool((self.gain != 1).any())

    def charge(self, x: Array, v: Array) -> Array:
        """Membrane before the comparison, from input and previous membrane (both `[N, ...]`)."""
        h = v * self.leak
        if self.has_offset:
            h = h + self.offset
        h = h + (x * self.gain if self.has_gain else x)
        return float32(h if self.floor is None else np.maximum(h, np.float32(self.floor)))

    def check_frame(self, x: Signal) -> None:
        """Check that the constants broadcast to a frame of the input.

        Raises:
            GraphError: If they do not.
        """
        for name in ("leak", "offset", "gain"):
            shape = getattr(self, name).shape
            fits = zip(reversed(shape), reversed(x.features), strict=False)
            if shape != (1,) and (len(shape) > len(x.features) or any(n not in (1, m) for n, m in fits)):
                raise GraphError(f"{name} of shape {list(shape)} does not fit frames {list(x.features)}")

    def leaky(self) -> tuple[float, float, float]:
        """The same charge as a leaky integrator: leak `q`, where it pulls to, and the factor of the input.

        `H = V - q (V - rest) + g X`.

        Raises:
            Unsupported: If it is not one; names the constant.
        """
        for name in ("leak", "offset", "gain"):
            constant = getattr(self, name)
            if (constant != constant.flat[0]).any():
                raise Unsupported(f"has a {name} for each channel")
        a, b, g = (float(c.flat[0]) for c in (self.leak, self.offset, self.gain))
        if not 0 <= a <= 1:
            raise Unsupported(f"multiplies its membrane by {a:g} in each step, which is not a leak")
        if self.floor is not None:
            raise Unsupported(f"keeps its membrane above {self.floor:g}")
        if a == 1 and b:
            raise Unsupported(f"adds {b:g} to its membrane in each step")
        if g <= 0:
            raise Unsupported(f"multiplies its input by {g:g}, which is not positive")
        return float(np.float32(1 - a)), b / (1 - a) if b else 0.0, g


@dataclass(frozen=True, eq=False)
class AffineNeuron(AffineCharge, Neuron):
    """The general neuron: the charge of `AffineCharge`; fire and reset as `Neuron`.

    `LIF`, `PLIF` and `IF` are its special cases that keep the order of operations of their sources. Here nothing ties
    the reset to the resting membrane or to the first one, and the threshold may lie anywhere. With `a = 0` it has no memory.

    Attributes:
        drop: What a spike subtracts from the membrane with soft reset; the threshold if `None`.
    """

    drop: float | None = None

    @property
    def lowered_by(self) -> float:
        return self.v_threshold if self.drop is None else self.drop

    def faults(self) -> list[str]:
        return []

    def infer(self, *inputs: Signal, T: int) -> Signal:
        y = super().infer(*inputs, T=T)
        self.check_frame(inputs[0])
        return y

    def plain(self) -> tuple[IF | PLIF, float]:
        """The `IF` or `PLIF` that computes the same up to rounding, and the factor of its input.

        Raises:
            Unsupported: If there is none; names the constant that does not fit.
        """
        q, rest, gain = self.leaky()
        if self.v_reset is None and self.lowered_by != self.v_threshold:
            raise Unsupported(
                f"a spike lowers its membrane by {self.lowered_by:g}, which is not the threshold"
            )
        reset = 0.0 if self.v_reset is None else self.v_reset
        if q and not math.isclose(rest, reset, rel_tol=1e-6, abs_tol=1e-6):
            raise Unsupported(f"leaks to {rest:g} but is reset to {reset:g}")
        if q < 1 and not math.isclose(self.v_initial, reset, rel_tol=1e-6, abs_tol=1e-6):
            raise Unsupported(f"begins at {self.v_initial:g} but is reset to {reset:g}")
        if reset >= self.v_threshold:
            raise Unsupported(f"its threshold {self.v_threshold:g} is not above its reset {reset:g}")
        if not q:
            return IF(self.v_threshold, self.v_reset, self.strict), gain
        return PLIF(self.v_threshold, self.v_reset, self.strict, decay=q, decay_input=False), gain
