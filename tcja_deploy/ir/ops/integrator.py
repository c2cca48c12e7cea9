"""The leaky integrator: a membrane that nobody compares with a threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tcja_deploy.ir.op import Array, Frames, Op, State
from tcja_deploy.ir.ops.numeric import float32
from tcja_deploy.ir.signal import Kind, Signal

__all__ = ["LI"]


@dataclass(frozen=True, eq=False)
class LI(Op):
    """Leaky integrator: a readout membrane, or the synaptic current of a current-based neuron. Result kind: real.

    ``decay_input``: ``V[t] = V[t-1] + (X[t] - (V[t-1] - v_leak)) q``;
    otherwise ``V[t] = V[t-1] - (V[t-1] - v_leak) q + X[t]``. The result is ``V[t]``; before the first frame ``V = v_leak``.
    This is the charge of ``PLIF`` without firing and reset, rounded alike. A forward Euler step of
    ``tau dV/dt = v_leak - V + X`` has ``q = dt / tau``. A current-based LIF is an ``LI`` (the current) followed by a neuron.

    Attributes:
        decay: The leak ``q`` per time step, in [0, 1]: 0 integrates without leak, 1 holds nothing.
        decay_input: Whether the input is multiplied by ``q`` as well.
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
        """Membrane after one step, from input and previous membrane (both ``[N, ...]``)."""
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
