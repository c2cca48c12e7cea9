"""Step by step: a network that takes one frame at a time, with its memory as an explicit value."""

from __future__ import annotations

from tcja_deploy.runtime.stream.cost import StreamCost, measure
from tcja_deploy.runtime.stream.engine import Emission, Stepper, StreamState, advance, initial, stream
from tcja_deploy.runtime.stream.estimate import Estimate, FrameProfile, fit
from tcja_deploy.runtime.stream.plan import StreamPlan, plan
from tcja_deploy.runtime.stream.reference import run_by_frame
from tcja_deploy.runtime.stream.saved import load_profile, save_profile, state_from_bytes, state_to_bytes
from tcja_deploy.runtime.stream.sweep import Divergence, sweep
from tcja_deploy.runtime.stream.timing import timing

__all__ = [
    "Divergence",
    "Emission",
    "Estimate",
    "FrameProfile",
    "Stepper",
    "StreamCost",
    "StreamPlan",
    "StreamState",
    "advance",
    "fit",
    "initial",
    "load_profile",
    "measure",
    "plan",
    "run_by_frame",
    "save_profile",
    "state_from_bytes",
    "state_to_bytes",
    "stream",
    "sweep",
    "timing",
]
