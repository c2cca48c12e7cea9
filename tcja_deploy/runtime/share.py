"""How certain a share is that was counted on a few recordings."""

from __future__ import annotations

import math

__all__ = ["interval", "share_text"]

_Z = 1.959963984540054
"""Quantile of the normal distribution for a two-sided 95 % interval."""


def interval(hits: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval (JASA 22, 1927) of a share.

    It stays within 0 and 1 and is not empty at either end, unlike the share plus or minus a few standard errors.

    Args:
        hits: How many of the trials succeeded.
        trials: How many trials there were, at least one.

    Returns:
        The lower and the upper end, from 0 to 1.
    """
    share, shrink = hits / trials, 1 + _Z**2 / trials
    centre = (share + _Z**2 / (2 * trials)) / shrink
    half = _Z * math.sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2)) / shrink
    return max(centre - half, 0.0), min(centre + half, 1.0)


def share_text(hits: int, trials: int) -> str:
    """A share in per cent with its interval, `"98.0 % (93.0 to 99.4)"`."""
    low, high = interval(hits, trials)
    return f"{100 * hits / trials:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
