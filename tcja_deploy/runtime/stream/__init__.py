"""Step by step: a network that takes one frame at a time, with its memory as an explicit value."""

from __future__ import annotations

from tcja_deploy.runtime.stream.engine import Emission, Stepper, StreamState, advance, initial, stream
from tcja_deploy.runtime.stream.estimate import Estimate, Profile, fit
from tcja_deploy.runtime.stream.plan import Plan, plan
from tcja_deploy.runtime.stream.reference import run_by_frame
from tcja_deploy.runtime.stream.saved import state_from_bytes, state_to_bytes
from tcja_deploy.runtime.stream.twin import plan_twin, stream_twin

__all__ = [
    "Emission",
    "Estimate",
    "Plan",
    "Profile",
    "Stepper",
    "StreamState",
    "advance",
    "fit",
    "initial",
    "plan",
    "plan_twin",
    "run_by_frame",
    "state_from_bytes",
    "state_to_bytes",
    "stream",
    "stream_twin",
]
