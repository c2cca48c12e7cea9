"""Calibration gives the same integers whichever engine ran the float network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tcja_deploy as td
from tcja_deploy import zoo
from tcja_deploy.errors import UsageError
from tcja_deploy.runtime.synthetic import synthetic_frames


def test_calibration_by_both_engines(tmp_path: Path) -> None:
    graph = zoo.build("events34", channels=(4, 6, 6), T=4, hidden=16)
    frames = [synthetic_frames(graph, 3)]
    reports = [
        td.export(graph, "lava", tmp_path / engine, data=frames, engine=engine)
        for engine in ("torch", "events")
    ]
    first, second = (
        [(s.name, s.scale, s.threshold, s.wraps, s.rate_float, s.disagreement) for s in r.stages]
        for r in reports
    )
    assert first == second
    goldens = [np.load(tmp_path / engine / "golden.npz") for engine in ("torch", "events")]
    assert goldens[0].files == goldens[1].files
    assert all(np.array_equal(goldens[0][key], goldens[1][key]) for key in goldens[0].files)
    with pytest.raises(UsageError, match="--engine"):
        td.export(graph, "lava", tmp_path / "other", data=frames, engine="lava")
