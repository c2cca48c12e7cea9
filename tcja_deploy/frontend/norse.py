"""Rules for Norse's neurons and leaky integrators, cells (one time step) and layers (a window) alike.

Norse 1.1 takes one forward Euler step of `dt` of `tau_mem dv/dt = v_leak - v + i`, `tau_syn di/dt = -i`: the input is
added to the current undivided, the current before its decay drives the membrane, the neuron fires above its threshold
(`>`) and is reset at once, and before the first step `v = v_leak`, `i = 0`. With the leaks `q = dt * tau_inv` as
float32 numbers the ops here round as Norse does, except `LIFBox` with a leak that is not 0.

Cells and layers return `(result, state)`; the state is `None` here, so that code that reads it does not trace.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tcja_deploy.frontend.constants import array
from tcja_deploy.frontend.context import RuleContext
from tcja_deploy.frontend.layout import name_time
from tcja_deploy.frontend.traced import Traced
from tcja_deploy.ir import ops as ir
from tcja_deploy.unsupported import Unsupported, UnsupportedInContext

__all__ = ["HINTS", "NORSE", "STEP_MODES", "hands_on_state", "is_norse"]

Emit = Callable[["_Emitter", Any], Traced]


class _Emitter:
    """Where a module's ops go."""

    def __init__(self, tracer: RuleContext, path: str, x: Traced) -> None:
        self._tracer, self._path, self.x = tracer, path, x

    def put(self, op: ir.LI | ir.Neuron | ir.Linear, part: str = "") -> Traced:
        """Append an op after what is there; the last one of a module carries its path, others a suffix."""
        name = f"{self._path}.{part}" if part else self._path
        self.x = self._tracer.emit(name, op, self.x)
        return self.x


def is_norse(module: object) -> bool:
    """Whether a module is one of Norse's own that is translated as a whole, not run: all but the plain sequence."""
    cls = type(module)
    return cls.__module__.startswith("norse.torch.module") and cls.__name__ != "SequentialState"


def hands_on_state(module: Any) -> bool:
    """Whether a module of Norse returns `(result, state)`."""
    if not is_norse(module):
        return False
    return bool(getattr(module, "is_stateful", "state" in inspect.signature(module.forward).parameters))


# -- parameters --------------------------------------------------------------------------------------------------
def _number(module: Any, name: str) -> float:
    """A parameter that all neurons share, as the float32 number that Norse computes with."""
    value = torch.as_tensor(getattr(module.p, name)).detach().to(torch.float32)
    if value.numel() == 0 or not bool((value == value.flatten()[0]).all()):
        raise Unsupported(f"has a {name} for each neuron", "give all neurons of a layer the same value")
    return float(value.flatten()[0])


def _leak(module: Any, name: str) -> float:
    """The part of a membrane or current that leaks in a time step, `dt * tau_inv`."""
    rate = torch.as_tensor(module.dt * torch.as_tensor(getattr(module.p, name)).detach()).flatten()
    if rate.numel() == 0 or not bool((rate == rate[0]).all()):
        raise Unsupported(f"has a {name} for each neuron", "give all neurons of a layer the same value")
    q = float(np.float32(float(rate[0])))
    if not 0 < q <= 1:
        raise Unsupported(
            f"leaks {q:g} of its state in a time step (dt * {name}), outside (0, 1]",
            "dt and the time constants have to be in the same unit, and dt the shorter one",
        )
    return q


def _firing(module: Any, v_rest: float) -> dict[str, Any]:
    """Threshold, comparison and reset of a neuron that leaks to `v_rest`."""
    reset = getattr(module.p, "reset_method", None)
    how = getattr(reset, "__name__", "reset_value" if reset is None else str(reset))
    threshold, v_reset = _number(module, "v_th"), _number(module, "v_reset")
    if how == "reset_subtract":
        if v_rest:
            raise Unsupported(f"leaks to {v_rest:g}; neurons with soft reset leak to 0 here")
        return {"v_threshold": threshold, "v_reset": None, "strict": True}
    if how != "reset_value":
        raise Unsupported(
            f"resets by {how}", "use norse.torch.functional.reset.reset_value or reset_subtract"
        )
    if v_reset != v_rest:
        raise Unsupported(
            f"leaks to {v_rest:g} but is reset to {v_reset:g}",
            "neurons here start and rest where they are reset: train with v_leak = v_reset",
        )
    return {"v_threshold": threshold, "v_reset": v_reset, "strict": True}


# -- dynamics ----------------------------------------------------------------------------------------------------
def _current(out: _Emitter, module: Any) -> None:
    out.put(ir.LI(_leak(module, "tau_syn_inv"), decay_input=False), "current")


def _lif(out: _Emitter, module: Any) -> Traced:
    op = ir.PLIF(**_firing(module, _number(module, "v_leak")), decay=_leak(module, "tau_mem_inv"))
    _current(out, module)
    return out.put(op)


def _lif_box(out: _Emitter, module: Any) -> Traced:
    return out.put(ir.PLIF(**_firing(module, _number(module, "v_leak")), decay=_leak(module, "tau_mem_inv")))


def _iaf(out: _Emitter, module: Any) -> Traced:
    return out.put(ir.IF(**_firing(module, _number(module, "v_reset"))))


def _li(out: _Emitter, module: Any) -> Traced:
    op = ir.LI(_leak(module, "tau_mem_inv"), v_leak=_number(module, "v_leak"))
    _current(out, module)
    return out.put(op)


def _li_box(out: _Emitter, module: Any) -> Traced:
    return out.put(ir.LI(_leak(module, "tau_mem_inv"), v_leak=_number(module, "v_leak")))


def _li_linear(out: _Emitter, module: Any) -> Traced:
    weight = array(module.input_weights)
    if weight is None:
        raise Unsupported("has no weights")
    out.put(ir.Linear(weight), "weights")
    return _li(out, module)


# -- time --------------------------------------------------------------------------------------------------------
def _over_time(emit: Emit, steps: tuple[str, ...], single: bool) -> Callable[..., Traced]:
    """A rule for a cell (`single`) or a layer whose update is one of Norse's functions `steps`."""

    def rule(tracer: RuleContext, path: str, module: Any, x: Traced) -> Traced:
        update = getattr(getattr(module, "activation", None), "__name__", steps[0])
        if update not in steps:
            raise Unsupported(f"updates its state by {update}", f"known: {', '.join(steps)}")
        if getattr(module, "record_states", False):
            raise Unsupported("records the states of all steps", "set record_states=False")
        if single and x.view != "frame":
            raise UnsupportedInContext(
                "is a cell, which computes one time step, but gets more",
                "use the layer over time (LIF, LI, IAF), or only cells and no Lift",
            )
        if not single and x.view != "window":
            raise UnsupportedInContext(
                "is a layer over time, but gets single frames",
                "use cells (LIFCell, LICell), or only layers and Lift",
            )
        place = path or type(module).__name__.lower()
        x = name_time(tracer, place, x, 0)
        tracer.once(place)
        result = emit(_Emitter(tracer, place, x), module)
        return Traced(result.name, result.signal, x.view, x.lead, result.tainted, pair=True)

    return rule


_LIF = ("lif_feed_forward_step", "lif_feed_forward_adjoint_step")
_CELLS: dict[str, tuple[Emit, tuple[str, ...]]] = {
    "IAFCell": (_iaf, ("iaf_feed_forward_step",)),
    "LIBoxCell": (_li_box, ("li_box_feed_forward_step",)),
    "LICell": (_li, ("li_feed_forward_step",)),
    "LIFBoxCell": (_lif_box, ("lif_box_feed_forward_step",)),
    "LIFCell": (_lif, _LIF),
    "LILinearCell": (_li_linear, ("li_step",)),
}
_LAYERS: dict[str, tuple[Emit, tuple[str, ...]]] = {
    "IAF": (_iaf, ("iaf_feed_forward_step",)),
    "LI": (_li, ("li_feed_forward_step",)),
    "LIF": (_lif, _LIF),
}

NORSE: dict[str, Callable[..., Traced]] = {
    **{f"norse:{name}": _over_time(emit, steps, True) for name, (emit, steps) in _CELLS.items()},
    **{f"norse:{name}": _over_time(emit, steps, False) for name, (emit, steps) in _LAYERS.items()},
}
"""Rules by package and class name; their results stand for `(result, state)`."""

STEP_MODES = {f"norse:{name}": "s" for name in _CELLS} | {f"norse:{name}": "m" for name in _LAYERS}
"""How each of them sees time, in SpikingJelly's terms."""

HINTS = dict.fromkeys(
    ("LIFRecurrent", "LIFRecurrentCell", "LSNNRecurrent", "LSNNRecurrentCell", "RecurrentSequential"),
    "recurrent connections have no translation",
)
"""What to do about Norse's classes without a rule."""
