"""Spiking neurons: charge, fire, reset, one rule each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tcja_deploy.ir.op import Array, Frames, Op, State
from tcja_deploy.ir.ops.numeric import float32
from tcja_deploy.ir.signal import Kind, Signal

__all__ = ["IF", "LIF", "PLIF", "Neuron"]


@dataclass(frozen=True, eq=False)
class Neuron(Op):
    """Charge ``H[t] = charge(X[t], V[t-1])``, fire ``S[t]``, reset ``V[t]``, in this order. Result kind: binary.

    Fire: ``S[t] = 1 if H[t] >= v_threshold`` (``>`` if ``strict``) else 0.
    Hard reset (``v_reset`` a number): ``V[t] = v_reset S[t] + (1 - S[t]) H[t]``.
    Soft reset (``v_reset`` is ``None``): ``V[t] = H[t] - S[t] v_threshold``.
    Before the first frame ``V = v_reset``, or 0 with soft reset. All in float32, as SpikingJelly 2 computes it.

    Attributes:
        v_threshold: Firing threshold.
        v_reset: Membrane after a spike, or ``None`` for soft reset.
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

    def charge(self, x: Array, v: Array) -> Array:
        """Membrane before the comparison, from input and previous membrane (both ``[N, ...]``)."""
        raise NotImplementedError

    def faults(self) -> list[str]:
        if self.v_rest < self.v_threshold:
            return []
        return [f"the threshold {self.v_threshold} does not lie above the resting membrane {self.v_rest}"]

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
        v = h - s * threshold if self.v_reset is None else np.where(fired, np.float32(self.v_reset), h)
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

    ``decay_input``: ``H[t] = V[t-1] + (X[t] - (V[t-1] - v_rest)) / tau``;
    otherwise ``H[t] = V[t-1] - (V[t-1] - v_rest) / tau + X[t]``. Fire and reset as ``Neuron``.

    Attributes:
        tau: Membrane time constant in time steps, > 1 in practice.
        decay_input: Whether the input is divided by ``tau`` as well.
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
    """Parametric LIF: as ``LIF``, with a learned leak ``q = sigmoid(w) = 1 / tau``.

    It multiplies where ``LIF`` divides, and so rounds otherwise.
    ``decay_input``: ``H[t] = V[t-1] + (X[t] - (V[t-1] - v_rest)) q``;
    otherwise ``H[t] = V[t-1] - (V[t-1] - v_rest) q + X[t]``. Fire and reset as ``Neuron``.

    Attributes:
        decay: The leak ``q`` per time step, in (0, 1]; 1 if ``sigmoid(w)`` rounds to it.
        decay_input: Whether the input is multiplied by ``q`` as well.
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
    """Integrate-and-fire: ``H[t] = V[t-1] + X[t]``. Fire and reset as ``Neuron``."""

    def charge(self, x: Array, v: Array) -> Array:
        return v + x
