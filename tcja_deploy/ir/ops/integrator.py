"""Integrators: membranes that are themselves the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tcja_deploy.ir.op import Array, Frames, Op, State
from tcja_deploy.ir.ops.neuron import AffineCharge
from tcja_deploy.ir.ops.numeric import float32
from tcja_deploy.ir.signal import Kind, Signal

__all__ = ["LI", "AffineIntegrator"]


@dataclass(frozen=True, eq=False)
class LI(Op):
    """Leaky integrator: a readout membrane, or the synaptic current of a current-based neuron. Result kind: real.

    `decay_input`: `V[t] = V[t-1] + (X[t] - (V[t-1] - v_leak)) q`;
    otherwise `V[t] = V[t-1] - (V[t-1] - v_leak) q + X[t]`. The result is `V[t]`; before the first frame `V = v_leak`.
    This is the charge of `PLIF` without firing and reset, rounded alike. A forward Euler step of
    `tau dV/dt = v_leak - V + X` has `q = dt / tau`. A current-based LIF is an `LI` (the current) followed by a neuron.

    Attributes:
        decay: The leak `q` per time step, in [0, 1]: 0 integrates without leak, 1 holds nothing.
        decay_input: Whether the input is multiplied by `q` as well.
        v_leak: Where the leak pulls to.
    """

    membrane: ClassVar[bool] = True

    decay: float
    decay_input: bool = True
    v_leak: float = 0.0

    @property
    def v_rest(self) -> float:
        """Membrane before the first frame, as neurons call it."""
        return self.v_leak

    def faults(self) -> list[str]:
        return [] if 0 <= self.decay <= 1 else [f"the decay {self.decay} is outside [0, 1]"]

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        self._require(x.streams, f"an integrator needs a stream of frames [T, N, ...], got {x}")
        return x.with_kind(Kind.REAL)

    def charge(self, x: Array, v: Array) -> Array:
        """Membrane after one step, from input and previous membrane (both `[N, ...]`)."""
        q, leak = np.float32(self.decay), v - np.float32(self.v_leak)
        return float32(v + (x - leak) * q if self.decay_input else v - leak * q + x)

    def initial_state(self, *inputs: Signal, T: int, N: int) -> State:
        return (np.full(inputs[0].shape(T, N)[1:], self.v_leak, np.float32),)

    def step(self, frames: Frames, state: State) -> tuple[Frames, State]:
        v = self.charge(frames[0], state[0])
        return (v,), (v,)

    def apply(self, *x: Array) -> Array:
        v, out = np.full_like(x[0][0], self.v_leak, dtype=np.float32), []
        for frame in x[0]:
            v = self.charge(frame, v)
            out.append(v)
        return np.stack(out)


@dataclass(frozen=True, eq=False)
class AffineIntegrator(AffineCharge, Op):
    """The charge of `AffineCharge` as the result: `H[t]` is passed on. Result kind: real.

    Without a threshold `V[t] = H[t]`: a leaky sum. With one it is the membrane of a neuron whose spikes only reset it (LIAF,
    leaky integrate and analog fire), by the rule of `Neuron`.

    Attributes:
        v_threshold: Where it is reset, or `None` if it never is.
        v_reset: Membrane after a reset, or `None`: the threshold is subtracted.
        strict: Reset above the threshold only, not at it.
    """

    v_threshold: float | None = None
    v_reset: float | None = 0.0
    strict: bool = False

    membrane: ClassVar[bool] = True

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        self._require(x.streams, f"an integrator needs a stream of frames [T, N, ...], got {x}")
        self.check_frame(x)
        return x.with_kind(Kind.REAL)

    def initial_state(self, *inputs: Signal, T: int, N: int) -> State:
        return (np.full(inputs[0].shape(T, N)[1:], self.v_initial, np.float32),)

    def step(self, frames: Frames, state: State) -> tuple[Frames, State]:
        h = self.charge(frames[0], state[0])
        if self.v_threshold is None:
            return (h,), (h,)
        threshold = np.float32(self.v_threshold)
        fired = h > threshold if self.strict else h >= threshold
        after = h - threshold if self.v_reset is None else np.float32(self.v_reset)
        return (h,), (float32(np.where(fired, after, h)),)

    def apply(self, *x: Array) -> Array:
        v, out = np.full_like(x[0][0], self.v_initial, dtype=np.float32), []
        for frame in x[0]:
            (h,), (v,) = self.step((frame,), (v,))
            out.append(h)
        return np.stack(out)
