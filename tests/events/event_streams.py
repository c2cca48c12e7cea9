"""Hypothesis strategies for event streams."""

import numpy as np
from hypothesis import strategies as st

from tcja_deploy.events import Events

SENSOR = (5, 7)


@st.composite
def streams(
    draw: st.DrawFn, *, min_size: int = 0, max_size: int = 120, max_gap: int = 400, ordered: bool = True
) -> Events:
    """A stream on a sensor of 5 rows and 7 columns, with gaps of up to `max_gap` microseconds."""
    size = draw(st.integers(min_size, max_size))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    t = draw(st.integers(0, 10_000)) + np.cumsum(rng.integers(0, max_gap + 1, size))
    if not ordered:
        t = rng.permutation(t)
    return Events(
        t, rng.integers(0, SENSOR[1], size), rng.integers(0, SENSOR[0], size), rng.integers(0, 2, size)
    )
