"""The temporal-channel joint attention block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tcja_deploy.ir.op import Array, Frames, Op, State
from tcja_deploy.ir.ops.numeric import sigmoid
from tcja_deploy.ir.signal import Kind, Signal

__all__ = ["TCJA", "same_padding"]


def same_padding(kernel: int) -> tuple[int, int]:
    """Zeros (left, right) of a "same" convolution as PyTorch places them: `((K-1)//2, K-1-(K-1)//2)`."""
    return (kernel - 1) // 2, kernel - 1 - (kernel - 1) // 2


@dataclass(frozen=True, eq=False)
class TCJA(Op):
    """Gate of a spike stream by attention over time and channels (Zhu et al., TNNLS 2024, arXiv 2206.10177).

    Squeeze `Z[c,t] = mean_{h,w} X[t,c,h,w]`; then, with PyTorch's "same" zero padding `l = (K-1)//2` on the left,

    * TLA `Tm[i,j] = sum_{n<C} sum_{m<K_T} tla[i,n,m] Z[n, j+m-l_T]` slides along time and mixes channels,
    * CLA `Cm[i,j] = sum_{n<T} sum_{m<K_C} cla[j,n,m] Z[i+m-l_C, n]` slides along channels and mixes time steps,
    * `F = sigmoid(Tm * Cm)` or `sigmoid(Tm + Cm)`; with one of them alone, `F = sigmoid` of that one,
    * `Y[t,c,h,w] = X[t,c,h,w] F[c,t]`.

    The step form holds the last `K_T` frames of Z and `C x T` accumulators of CLA. A frame becomes final
    `K_T - 1 - l_T` frames later with TLA alone, at the end of the window with CLA. Spikes become graded.

    Attributes:
        tla: `[C, C, K_T]` or `None`.
        cla: `[T, T, K_C]` or `None`.
        fusion: How the two maps are fused; without meaning if there is only one.
    """

    tla: Array | None = None
    cla: Array | None = None
    fusion: Literal["multiply", "add"] = "multiply"

    def faults(self) -> list[str]:
        found = (
            []
            if self.tla is not None or self.cla is not None
            else ["there is neither a TLA nor a CLA kernel"]
        )
        for name, kernel in (("TLA", self.tla), ("CLA", self.cla)):
            if kernel is not None and (kernel.ndim != 3 or 0 in kernel.shape):
                found.append(
                    f"the {name} kernel has shape {kernel.shape}, 3 axes without an empty one are needed"
                )
        return found

    def infer(self, *inputs: Signal, T: int) -> Signal:
        (x,) = inputs
        fits = x.dims[:2] == ("T", "N") and len(x.dims) == 5
        self._require(fits, f"TCJA needs [T, N, C, H, W], got {x}")
        c = x.dims[2]
        if self.tla is not None:
            self._require(
                self.tla.shape[:2] == (c, c), f"TLA weights {self.tla.shape} do not fit {c} channels"
            )
        if self.cla is not None:
            self._require(self.cla.shape[:2] == (T, T), f"CLA weights {self.cla.shape} do not fit T = {T}")
        return x.with_kind(x.kind.widened(Kind.GRADED))

    def acts_on_time(self, *inputs: Signal) -> bool:
        return True

    @property
    def k_t(self) -> int:
        """Kernel size of TLA along time, 0 without TLA."""
        return 0 if self.tla is None else int(self.tla.shape[2])

    @property
    def k_c(self) -> int:
        """Kernel size of CLA along channels, 0 without CLA."""
        return 0 if self.cla is None else int(self.cla.shape[2])

    def lookahead(self, *inputs: Signal, T: int) -> int:
        return T - 1 if self.cla is not None else min(same_padding(self.k_t)[1], T - 1)

    # -- maps --------------------------------------------------------------------------------------------
    def joint(self, tm: Array | None, cm: Array | None) -> Array:
        """The gate's argument from the two maps (same shapes; `None` where there is none)."""
        if tm is not None and cm is not None:
            return tm * cm if self.fusion == "multiply" else tm + cm
        only = cm if tm is None else tm
        if only is None:
            raise ValueError("a gate needs at least one map")
        return only

    def maps(self, z: Array) -> tuple[Array | None, Array | None]:
        """`Tm` and `Cm` as `[T, N, C]` from the squeezed window `z = [T, N, C]`; `None` where there is none."""
        T, _, C = z.shape
        tm = cm = None
        if self.tla is not None:
            padded = np.pad(z, (same_padding(self.k_t), (0, 0), (0, 0)))
            tm = sum(np.einsum("tnc,oc->tno", padded[m : m + T], self.tla[:, :, m]) for m in range(self.k_t))
        if self.cla is not None:
            padded = np.pad(z, ((0, 0), (0, 0), same_padding(self.k_c)))
            cm = sum(
                np.einsum("tnc,ot->onc", padded[:, :, m : m + C], self.cla[:, :, m]) for m in range(self.k_c)
            )
        return tm, cm

    def gate(self, z: Array) -> Array:
        """`F` as `[T, N, C]` from the squeezed window `z = [T, N, C]`."""
        return sigmoid(self.joint(*self.maps(z)))

    def apply(self, *x: Array) -> Array:
        z: Array = x[0].mean((3, 4), dtype=np.float32)
        return x[0] * self.gate(z)[..., None, None]

    # -- step by step --------------------------------------------------------------------------------------
    def initial_state(self, *inputs: Signal, T: int, N: int) -> State:
        """State `(t, ring, tm, cm, held)`.

        `ring [K_T, N, C]` holds the latest squeezed frames, `tm` the TLA columns not yet used, `cm [T, N, C]` the CLA
        accumulators, `held` the input frames not yet emitted.
        """
        c = inputs[0].features[0]
        return 0, np.zeros((self.k_t, N, c), np.float32), (), np.zeros((T, N, c), np.float32), ()

    def step(self, frames: Frames, state: State) -> tuple[Frames, State]:
        t, ring, tm, cm, held = state
        x, T = frames[0], len(cm)
        z = x.mean((2, 3), dtype=np.float32)
        held = (*held, x)
        last = t == T - 1
        if self.cla is not None:
            padded = np.pad(z, ((0, 0), same_padding(self.k_c)))
            for m in range(self.k_c):
                cm = cm + self.cla[:, t, m][:, None, None] * padded[:, m : m + z.shape[1]]
        if self.tla is not None:
            ahead = same_padding(self.k_t)[1]
            arrivals = [z] + [np.zeros_like(z)] * (ahead if last else 0)
            for i, arrived in enumerate(arrivals, start=t):
                ring = np.concatenate([ring[1:], arrived[None]])
                if i >= ahead:
                    tm = (*tm, np.einsum("knc,ock->no", ring, self.tla))
        if self.cla is not None:
            ready = T if last else 0
        else:
            ready = len(tm)
        out = []
        for i in range(ready):
            gate = sigmoid(self.joint(tm[i] if tm else None, cm[i] if self.cla is not None else None))
            out.append(held[i] * gate[..., None, None])
        return tuple(out), (t + 1, ring, tm[ready:], cm, held[ready:])
