"""The gate of a TCJA block, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.stream.cells import CellState, PlainCell
from tcja_deploy.runtime.stream.estimate import Estimate

__all__ = ["GateBuffer", "channelwise", "due", "fuse", "squeeze", "temporal"]


def squeeze(x: Tensor) -> Tensor:
    """`Z[N, C]` of a frame `[N, C, H, W]`."""
    return x.mean((2, 3))


def temporal(taps: Tensor, weight: Tensor) -> Tensor:
    """One TLA column `[N, C]` from the frames of Z around it, `[K_T, N, C]`, and `W [C, C, K_T]`."""
    return F.linear(taps.permute(1, 0, 2).flatten(1), weight.permute(0, 2, 1).flatten(1))


def channelwise(z: Tensor, weight: Tensor) -> Tensor:
    """What frames of Z `[n, N, C]` add to CLA columns `[t, N, C]`, through their part of E `[t, n, K_C]`."""
    padded = F.pad(z.permute(1, 0, 2), ir.same_padding(weight.shape[2]))
    return F.conv1d(padded, weight).permute(1, 0, 2)


def due(t: int, lookahead: int, T: int) -> range:
    """Frames whose gate is due when frame `t` has arrived: at most one, and at the end all that are left."""
    return range(max(t - lookahead, 0), T if t == T - 1 else t - lookahead + 1)


def fuse(op: ir.TCJA, tm: Tensor | None, cm: Tensor | None) -> Tensor:
    """The gate `F` from one of the two maps, or from both."""
    if tm is None or cm is None:
        only = cm if tm is None else tm
        if only is None:
            raise TypeError("a TCJA block without kernels")
        return torch.sigmoid(only)
    return torch.sigmoid(tm * cm if op.fusion == "multiply" else tm + cm)


@dataclass(frozen=True, eq=False)
class GateBuffer(PlainCell):
    """Frames of X in, gates `F[:, j]` `[N, C]` out `lookahead` frames later, at the latest with the last frame.

    The gate of frame j is computed when frame `t = min(j + lookahead, T - 1)` has arrived: from the true
    `Z[0..t]` and, where it depends on later frames, from the estimate of them.

    State, only as far as the block needs it:

    * `ring [K_T, N, C]`: the latest frames of Z, for TLA;
    * `tm [D - r, N, C]`: TLA columns computed before their gate is due, r = min(D, K_T's own look-ahead);
    * `cm [T, N, C]`: CLA accumulators: when `Z[:, n]` arrives its part goes to all T columns;
    * `past [N, C]`: sum of Z so far, where the estimate predicts from the past.

    Attributes:
        op: The block.
        channels: C.
        T: Frames of a window.
        lookahead: D, from 0 to the block's own look-ahead, where the gate is exact.
        estimate: What it expects of frames that have not arrived; `None` for zeros.
    """

    op: ir.TCJA
    channels: int
    T: int
    lookahead: int
    estimate: Estimate | None = None

    @cached_property
    def _tla(self) -> Tensor | None:
        return None if self.op.tla is None else torch.tensor(self.op.tla)

    @cached_property
    def _cla(self) -> Tensor | None:
        return None if self.op.cla is None else torch.tensor(self.op.cla)

    @property
    def reach(self) -> int:
        """How many frames ahead a TLA column is computed."""
        return min(self._own_reach, self.lookahead)

    @property
    def exact_lookahead(self) -> int:
        """Frames that the gate has to wait for to be exact."""
        return self.T - 1 if self.op.k_c else min(self._own_reach, self.T - 1)

    @property
    def _own_reach(self) -> int:
        return ir.same_padding(self.op.k_t)[1] if self.op.k_t else 0

    @property
    def _guesses(self) -> bool:
        return self.estimate is not None and self.lookahead < self.exact_lookahead

    @property
    def _predicts(self) -> bool:
        return self._guesses and self.estimate is not None and self.estimate.slope is not None

    @property
    def macs(self) -> int:
        """See `Cell`: TLA columns, CLA parts, and the mean cost of CLA's estimates."""
        T, C = self.T, self.channels
        ahead = sum(T - 1 - t for t in range(self.lookahead, T - 1)) if self._guesses and self.op.k_c else 0
        return C * C * self.op.k_t + (T + ahead // T) * C * self.op.k_c

    def initial(self, samples: int) -> CellState:
        """See `Cell`."""
        frame = (samples, self.channels)
        state = {}
        if self.op.tla is not None:
            state["ring"] = torch.zeros(self.op.k_t, *frame)
            if self.lookahead > self.reach:
                state["tm"] = torch.zeros(self.lookahead - self.reach, *frame)
        if self.op.cla is not None:
            state["cm"] = torch.zeros(self.T, *frame)
        if self._predicts:
            state["past"] = torch.zeros(frame)
        return state

    def step(self, inputs: tuple[Tensor, ...], state: CellState, t: int) -> tuple[list[Tensor], CellState]:
        """See `Cell`."""
        return self.advance(squeeze(inputs[0]), state, t)

    def advance(self, z: Tensor, state: CellState, t: int) -> tuple[list[Tensor], CellState]:
        """`step` from a frame of Z `[N, C]`."""
        D, new = self.lookahead, dict(state)
        if "past" in new:
            new["past"] = new["past"] + z
        if self._cla is not None:
            new["cm"] = new["cm"] + channelwise(z[None], self._cla[:, t, None])
        future = self._future(new, t, len(z))
        tm = None if self._tla is None else self._columns(self._tla, new, z, future, t)
        gates = []
        for i, j in enumerate(due(t, D, self.T)):
            cm = None
            if self._cla is not None:
                cm = new["cm"][j]
                if future is not None and t < self.T - 1:
                    cm = cm + channelwise(future, self._cla[j : j + 1, t + 1 :])[0]
            gates.append(fuse(self.op, None if tm is None else tm[i], cm))
        return gates, new

    def _future(self, state: dict[str, Tensor], t: int, samples: int) -> Tensor | None:
        """Estimates of the frames after `t`; `None` if they count as zeros."""
        if self.estimate is None or not self._guesses:
            return None
        return self.estimate.future(t, state["past"] / (t + 1) if "past" in state else None, samples)

    def _columns(
        self, weight: Tensor, state: dict[str, Tensor], z: Tensor, future: Tensor | None, t: int
    ) -> list[Tensor]:
        """TLA columns, from the oldest one that is not emitted; updates `ring` and `tm`."""
        taps = [*state["ring"][1:], z]
        state["ring"] = torch.stack(taps)
        silence, guessed = torch.zeros_like(z), self._own_reach - self.reach
        ahead = (
            [silence] * guessed
            if future is None
            else [*future[:guessed], *[silence] * (guessed - len(future))]
        )
        taps += ahead
        columns = list(state.get("tm", ()))
        for _ in range(self.reach + 1 if t == self.T - 1 else 1):
            columns.append(temporal(torch.stack(taps[-self.op.k_t :]), weight))
            taps.append(silence)
        if "tm" in state:
            state["tm"] = torch.stack(columns[-len(state["tm"]) :])
        return columns
