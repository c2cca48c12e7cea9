"""Networks whose frames have time as their last axis, `[N, C, H, W, T]`: found by running, so the refusal names the cause."""

from __future__ import annotations

import torch
from torch import nn

from tcja_deploy.frontend.subject import copied

__all__ = ["takes_time_last"]

_STEPS = 4


def takes_time_last(module: nn.Module, shape: tuple[int, ...], timesteps: int | None) -> bool:
    """Whether a module runs on `[N, *shape, T]`, and not on anything that has time first or no time.

    Args:
        module: The module; copies are run.
        shape: One frame of one sample.
        timesteps: T, if it is known.
    """
    T = timesteps or _STEPS
    N = next(n for n in range(2, len(shape) + 4) if n not in (*shape, T))
    return _runs(module, (N, *shape, T)) and not any(
        _runs(module, size) for size in ((T, N, *shape), (N, T, *shape), (N, *shape))
    )


def _runs(module: nn.Module, size: tuple[int, ...]) -> bool:
    try:
        with torch.no_grad():
            copied(module).to("cpu", torch.float32).eval()(torch.zeros(size))
    except Exception:  # forward is the user's code
        return False
    return True
