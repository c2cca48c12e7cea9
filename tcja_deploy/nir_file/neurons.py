"""What NIR's neurons and integrators become.

NIR states differential equations and leaves the time step to the reader. They are read with one forward Euler step of length
`dt` per frame, which is what SpikingJelly, Norse and snnTorch do: `tau dv/dt = v_leak - v + r i` becomes
`v += (v_leak - v + r i) dt / tau`. A neuron fires on the membrane after that step, and is reset at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tcja_deploy.ir import GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.nir_file.context import NodeContext, NodeRule
from tcja_deploy.unsupported import Unsupported

__all__ = ["NEURONS", "TEMPORAL"]

_CLOSE = 1e-6
"""Relative difference up to which two parameters are taken to be equal: files hold them as float32, or as quotients of them."""


def _summed(builder: GraphBuilder, x: str) -> tuple[ir.AvgPool2d, str] | None:
    """The pooling and its input, if `x` is a sum pooling of binary spikes."""
    scale = builder[x].op
    if not isinstance(scale, ir.Affine) or scale.offset:
        return None
    pool = builder[builder[x].inputs[0]]
    if not isinstance(pool.op, ir.AvgPool2d) or scale.scale != pool.op.kernel[0] * pool.op.kernel[1]:
        return None
    source = pool.inputs[0]
    return (pool.op, source) if builder.signal(source).kind is Kind.BINARY else None


def _simplest(threshold: float, strict: bool) -> tuple[float, bool]:
    """The same comparison with the simpler number: in float32, `v > 0.99999994` is `v >= 1`."""
    t = np.float32(threshold)
    other = np.nextafter(t, np.float32(np.inf if strict else -np.inf))
    return (float(other), not strict) if len(str(other)) < len(str(t)) else (float(t), strict)


def _firing(node: NodeContext, x: str, v_leak: float) -> dict[str, Any]:
    """Threshold, comparison and reset."""
    threshold = node.uniform("v_threshold", x)
    v_reset = node.uniform("v_reset", x) if node.fields.get("v_reset") is not None else 0.0
    strict = node.reading.comparison == ">"
    if node.reading.soft_reset:  # the threshold is also what is subtracted: it stays to the last bit
        if v_leak:
            raise Unsupported(f"leaks to {v_leak:g}; neurons with soft reset leak to 0 here")
        return {"v_threshold": float(np.float32(threshold)), "v_reset": None, "strict": strict}
    if v_leak != v_reset:
        raise Unsupported(
            f"leaks to {v_leak:g} but is reset to {v_reset:g}",
            "neurons here start and rest where they are reset: train with v_leak = v_reset",
        )
    threshold, strict = _simplest(threshold, strict)
    return {"v_threshold": threshold, "v_reset": v_reset, "strict": strict}


def _input(node: NodeContext, x: str, gain: float, tau: float) -> tuple[str, bool]:
    """The input after its resistance, and whether the leak multiplies it (`decay_input`).

    `gain` is what multiplies the input before the leak does: 1 is the plain membrane equation, `tau` an input that
    arrives undivided. Any other number stays as a multiplication.
    """
    if np.isclose(gain, 1, rtol=_CLOSE, atol=0):
        return x, True
    if np.isclose(gain, tau, rtol=_CLOSE, atol=0):
        return x, False
    return node.emit(ir.Affine(gain), x, "resistance"), True


def _leaky(node: NodeContext, tau: float, decay_input: bool, firing: dict[str, Any]) -> ir.Neuron:
    """Leaky neurons divide by tau, as SpikingJelly's do, unless the file asks for a multiplication; only rounding differs."""
    if not tau >= 1 - _CLOSE:
        raise Unsupported(
            f"has a time constant of {tau:g} time steps, shorter than one",
            "dt may be wrong; Norse 1.1 writes dt * tau where NIR has tau: pass dt squared for its files",
        )
    metadata = node.fields.get("metadata")
    if isinstance(metadata, Mapping) and metadata.get("leak") == "multiplication":
        return ir.PLIF(**firing, decay=float(np.float32(min(1.0, 1 / tau))), decay_input=decay_input)
    return ir.LIF(**firing, tau=max(1.0, tau), decay_input=decay_input)


def _or(node: NodeContext, x: str, drive: float, firing: dict[str, Any]) -> str | None:
    """Neurons on sums of spikes that fire on any spike and forget it at once compute max-pooling."""
    pooled, threshold = _summed(node.builder, x), firing["v_threshold"]
    fires = drive > threshold if firing["strict"] else drive >= threshold
    if pooled is None or firing["v_reset"] != 0 or threshold <= 0 or not fires:
        return None
    op, source = pooled
    return node.emit(ir.MaxPool2d(op.kernel, op.stride, op.padding), source)


def _if(node: NodeContext, x: str) -> str:
    gain = node.uniform("r", x) * node.reading.dt
    firing = _firing(node, x, node.uniform("v_reset", x) if node.fields.get("v_reset") is not None else 0.0)
    if (pooled := _or(node, x, gain, firing)) is not None:
        return pooled
    if not np.isclose(gain, 1, rtol=_CLOSE, atol=0):
        x = node.emit(ir.Affine(gain), x, "resistance")
    return node.emit(ir.IF(**firing), x)


def _lif(node: NodeContext, x: str) -> str:
    tau, r = node.time("tau", x), node.uniform("r", x)
    firing = _firing(node, x, node.uniform("v_leak", x))
    x, decay_input = _input(node, x, r, tau)
    return node.emit(_leaky(node, tau, decay_input, firing), x)


def _li_op(node: NodeContext, tau: float, decay_input: bool, v_leak: float) -> ir.LI:
    if not tau >= 1 - _CLOSE:
        raise Unsupported(f"has a time constant of {tau:g} time steps, shorter than one", "dt may be wrong")
    return ir.LI(float(np.float32(min(1.0, 1 / tau))), decay_input, v_leak)


def _li(node: NodeContext, x: str) -> str:
    tau, r, v_leak = node.time("tau", x), node.uniform("r", x), node.uniform("v_leak", x)
    x, decay_input = _input(node, x, r, tau)
    return node.emit(_li_op(node, tau, decay_input, v_leak), x)


def _i(node: NodeContext, x: str) -> str:
    gain = node.uniform("r", x) * node.reading.dt
    if not np.isclose(gain, 1, rtol=_CLOSE, atol=0):
        x = node.emit(ir.Affine(gain), x, "resistance")
    return node.emit(ir.LI(0.0, decay_input=False), x)


def _current(node: NodeContext, x: str) -> str:
    """The synaptic current of the current-based neurons: `tau_syn di/dt = -i + w_in x`."""
    tau = node.time("tau_syn", x)
    w_in = node.uniform("w_in", x) if node.fields.get("w_in") is not None else 1.0
    x, decay_input = _input(node, x, w_in, tau)
    return node.emit(_li_op(node, tau, decay_input, 0.0), x, "current")


def _cuba_lif(node: NodeContext, x: str) -> str:
    tau, r = node.time("tau_mem", x), node.uniform("r", x)
    firing = _firing(node, x, node.uniform("v_leak", x))
    x, decay_input = _input(node, _current(node, x), r, tau)
    return node.emit(_leaky(node, tau, decay_input, firing), x)


def _cuba_li(node: NodeContext, x: str) -> str:
    tau, r, v_leak = node.time("tau_mem", x), node.uniform("r", x), node.uniform("v_leak", x)
    x, decay_input = _input(node, _current(node, x), r, tau)
    return node.emit(_li_op(node, tau, decay_input, v_leak), x)


def _threshold(node: NodeContext, x: str) -> str:
    """A neuron without memory: with decay 1 its membrane is the input."""
    threshold, strict = _simplest(node.uniform("threshold", x), node.reading.comparison == ">")
    if threshold <= 0:
        raise Unsupported(f"fires without input: its threshold is {threshold:g}")
    return node.emit(ir.PLIF(threshold, 0.0, strict, decay=1.0, decay_input=False), x)


NEURONS: dict[str, NodeRule] = {
    "CubaLI": _cuba_li,
    "CubaLIF": _cuba_lif,
    "I": _i,
    "IF": _if,
    "LI": _li,
    "LIF": _lif,
    "Threshold": _threshold,
}
"""Rules by NIR type."""
TEMPORAL = frozenset(NEURONS) - {"Threshold"}
"""Types whose meaning depends on the length of a time step."""
