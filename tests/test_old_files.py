"""Files of earlier versions are read as they were meant; they lie in `tests/data/formats`, written by those versions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tcja_deploy as td
from tcja_deploy.ir_file import save_graph
from tcja_deploy.runtime.sequence import run

FORMATS = Path(__file__).parent / "data" / "formats"


def test_a_tcja_file_of_version_0_1(tmp_path: Path) -> None:
    """The same weights, the same result on the same frames, to the last bit, also after it was written anew."""
    graph = td.load(FORMATS / "network_0_1.tcja")
    assert graph.source["note"] == "version 0.1.0"
    with np.load(FORMATS / "network_0_1.npz") as kept:
        frames, output = kept["frames"].astype(np.float32), kept["output"]
    assert 0 < output.mean() < 1
    assert np.array_equal(run(graph, frames).numpy(), output)
    save_graph(graph, tmp_path / "again.tcja")
    again = td.load(tmp_path / "again.tcja")
    assert again.hash == graph.hash
    assert np.array_equal(run(again, frames).numpy(), output)
