"""State dicts of the TCJA authors' second set of networks, trained with TET (temporal efficient training).

Their keys name modules of that code base: `features.<i>.fwd.module.{0,1}` (convolution, batch normalisation) before a
neuron without parameters, `features.<i>.conv.0` and `features.<i>.conv_c` (TCJA: CLA and TLA), shared 2 x 2 pools in the
gaps, and one `classifier.module`, or `classifier_1` and `classifier_2` with a neuron between them.

The neuron: `H[t] = V[t-1] / 2 + X[t]`, a spike above 1 (not at 1), reset to 0. The code is batch-first; the graph is not, as
state dicts say nothing of layouts. The output is the last layer's membrane input in each time step.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import TraceError, UsageError
from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.unsupported import bullets
from tcja_deploy.zoo.architecture import StateDict

__all__ = ["BY_CODE", "from_tet_state", "matches"]

BY_CODE = (
    "take the weights with the code of the network: models.py:NAME --weights FILE (docs/your-network.md), or in Python "
    "tcja_deploy.load(module, input_shape=(C, H, W))"
)
"""What to do about weights that are in no known layout."""


_BLOCK = re.compile(r"features\.(\d+)\.(fwd\.module\.[01]\.\w+|conv\.0\.weight|conv_c\.weight)$")
_ONE, _TWO = ("classifier.module",), ("classifier_1.0.module.1", "classifier_2.1.module")
_SPIKE = ir.LIF(tau=2.0, decay_input=False, strict=True)


def matches(state: StateDict) -> bool:
    """Whether the keys are in this layout."""
    return any(_BLOCK.match(key) for key in state)


def from_tet_state(
    state: StateDict,
    *,
    timesteps: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    source: dict[str, str] | None = None,
) -> Graph:
    """Graph of a state dict.

    Args:
        state: Weights by key.
        timesteps: T; needed only if there is no TCJA block to read it off.
        input_shape: `[C, H, W]` of a frame; without it, the size that the first dense layer expects, or the sensor.
        source: Provenance for manifests.

    Raises:
        TraceError: If weights are missing, left over or misshapen; lists all.
        UsageError: If an argument is needed or contradicts the weights.
    """
    positions = sorted({int(m.group(1)) for m in map(_BLOCK.match, state) if m})
    dense = _TWO if any(key.startswith("classifier_1.") for key in state) else _ONE
    pool = "max" if dense is _TWO else "avg"
    layers = _Layers(state, positions)
    T = layers.timesteps(timesteps)
    layers.check(T, dense)
    shape, note = layers.input_shape(state[f"{dense[0]}.weight"].shape[1], input_shape)
    b = GraphBuilder(T)
    x = b.add("input", ir.Input(shape, Kind.COUNT if dense is _TWO else Kind.GRADED))
    for i in range(positions[-1] + 2):
        x = layers.add(b, x, i, pool)
    x = b.add("flatten", ir.Flatten(), x)
    for name in dense:
        x = b.add(name, ir.Linear(layers.get(f"{name}.weight"), layers.get(f"{name}.bias")), x)
        if name != dense[-1]:
            x = b.add("act", _SPIKE, x)
    assumed = [
        "LIF: V / 2 + X, a spike above 1, reset to 0 (the published TET code)",
        f"pooling: {pool} of 2 x 2",
        note,
        "readout: membrane inputs of the last layer, one output per time step",
    ]
    return b.finish(x, {"architecture": "tet", **(source or {}), "assumptions": "; ".join(assumed)})


class _Layers:
    """The blocks of `features` by position."""

    def __init__(self, state: StateDict, positions: list[int]) -> None:
        self._state = state
        self._positions = positions
        self._gates = [i for i in positions if self._has(i, "conv.0") or self._has(i, "conv_c")]
        self._convs = [i for i in positions if i not in self._gates]

    def _has(self, i: int, part: str) -> bool:
        return f"features.{i}.{part}.weight" in self._state

    def get(self, key: str) -> NDArray[np.float32]:
        """A weight in the IR's form."""
        return np.array(self._state[key], np.float32, order="C")

    def timesteps(self, given: int | None) -> int:
        """T of the CLA weights, or as given."""
        weights = [self._state.get(f"features.{i}.conv.0.weight") for i in self._gates]
        found = {w.shape[0] for w in weights if w is not None}
        if len(found) > 1:
            raise TraceError(f"the CLA weights disagree about the number of time steps: {sorted(found)}")
        if not found and given is None:
            raise UsageError(
                "the weights do not give the number of time steps (there is no CLA kernel)",
                hint="pass --timesteps",
            )
        if found and given not in (None, *found):
            raise UsageError(f"--timesteps {given} contradicts the CLA weights, which have T = {found.pop()}")
        return found.pop() if found else int(given or 0)

    def check(self, T: int, dense: tuple[str, ...]) -> None:
        """Compare keys and shapes with those of the layers; numbers of outputs are free."""
        gaps = set(range(self._positions[-1])) - set(self._positions)
        if not gaps:
            raise TraceError(
                "no pools between the layers: that network strides its convolutions, which the weights do not show",
                hint=BY_CODE,
            )
        want: dict[str, tuple[int | None, ...]] = {}
        inputs: int | None = None
        for i in self._positions:
            at = f"features.{i}"
            if i in self._gates:
                cla, tla = f"{at}.conv.0.weight", f"{at}.conv_c.weight"
                want |= {k: (n, n, None) for k, n in ((cla, T), (tla, inputs)) if k in self._state}
                continue
            width = _width(self._state, f"{at}.fwd.module.0.weight")
            want[f"{at}.fwd.module.0.weight"] = (width, inputs, 3, 3)
            norm = ("1.weight", "1.bias", "1.running_mean", "1.running_var")
            want |= {f"{at}.fwd.module.{k}": (width,) for k in ("0.bias", *norm)}
            inputs = width
        features: int | None = None
        for name in dense:
            width = _width(self._state, f"{name}.weight")
            want |= {f"{name}.weight": (width, features), f"{name}.bias": (width,)}
            features = width
        _compare(self._state, want)

    def input_shape(self, features: int, given: tuple[int, ...] | None) -> tuple[tuple[int, ...], str]:
        """Frame size, and where it came from."""
        if given is not None:
            return given, f"input: {given}, as given"
        pools = self._positions[-1] + 2 - len(self._positions)
        channels = self._state[f"features.{self._convs[0]}.fwd.module.0.weight"].shape[1]
        last = self._state[f"features.{self._convs[-1]}.fwd.module.0.weight"].shape[0]
        area, rest = divmod(features, last)
        if not rest and (180 >> pools) * (240 >> pools) == area:
            return (channels, 180, 240), "input: 180 x 240, the sensor of N-Caltech101"
        side = math.isqrt(area)
        if rest or side * side != area:
            raise UsageError(
                f"{features} features of {last} channels come from no square frame",
                hint="pass --input-shape C,H,W",
            )
        side <<= pools
        return (
            channels,
            side,
            side,
        ), f"input: {side} x {side}, the square that {pools} pools bring to {area} positions"

    def add(self, b: GraphBuilder, x: str, i: int, pool: str) -> str:
        """Append the layer at a position; the last one is a pool."""
        at = f"features.{i}"
        if i in self._gates:
            tla, cla = (
                self.get(f"{at}.{k}.weight") if self._has(i, k) else None for k in ("conv_c", "conv.0")
            )
            return b.add(at, ir.TCJA(tla, cla), x)
        if i not in self._convs:
            return b.add(at, (ir.MaxPool2d if pool == "max" else ir.AvgPool2d)((2, 2), (2, 2)), x)
        conv, norm = f"{at}.fwd.module.0", f"{at}.fwd.module.1"
        x = b.add(
            conv, ir.Conv2d(self.get(f"{conv}.weight"), self.get(f"{conv}.bias"), padding=(1, 1, 1, 1)), x
        )
        gamma, beta = self.get(f"{norm}.weight"), self.get(f"{norm}.bias")
        mean, var = self.get(f"{norm}.running_mean"), self.get(f"{norm}.running_var")
        x = b.add(norm, ir.BatchNorm2d(gamma, beta, mean, var), x)
        return b.add(f"{at}.act", _SPIKE, x)


def _width(state: StateDict, key: str) -> int | None:
    """Outputs of a layer, if its weight is there."""
    weight = state.get(key)
    return None if weight is None else int(weight.shape[0])


def _compare(state: StateDict, want: Mapping[str, tuple[int | None, ...]]) -> None:
    """Raise with every missing, misshapen or superfluous key; `None` stands for any length."""
    found = [f"{k}: missing" for k in want if k not in state]
    for key, shape in want.items():
        if key in state:
            got = state[key].shape
            same = len(got) == len(shape) and all(n in (None, m) for n, m in zip(shape, got, strict=True))
            if not same:
                expected = ", ".join("any" if n is None else str(n) for n in shape)
                found.append(f"{key}: has shape {got}, expected ({expected})")
    found += [
        f"{k}: has no place in this network"
        for k in state
        if k not in want and not k.endswith("num_batches_tracked")
    ]
    if found:
        raise TraceError(
            f"the weights do not fit the layout of the TET networks:{bullets(found)}",
            hint=BY_CODE,
        )
