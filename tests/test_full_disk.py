"""A disk that is full while something is written: an `ExportError`, exit code 8, and nothing half-written is left."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tcja_deploy as td
from tcja_deploy import zoo
from tcja_deploy.energy.count.model import measure_model
from tcja_deploy.energy.render.documents import rates_document, write_plots, write_text
from tcja_deploy.energy.render.plots import rate_plots
from tcja_deploy.energy.report.rates import rates
from tcja_deploy.errors import ExportError, FileFormatError
from tcja_deploy.events import open_data
from tcja_deploy.ir import Graph
from tcja_deploy.ir_file import save_graph
from tcja_deploy.runtime.activity.file import save_activity
from tcja_deploy.runtime.stream import save_profile
from tcja_deploy.runtime.stream.estimate import fit
from tcja_deploy.runtime.synthetic import synthetic_frames


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """Inside, no file grows beyond so many bytes, as on a disk with no more room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return zoo.build("events34", T=4, channels=(4, 4, 4), hidden=16, classes=9)


@pytest.fixture(scope="module")
def measured(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("data") / "frames.npy"
    np.save(file, synthetic_frames(graph, 3).swapaxes(0, 1))
    data = open_data(file, timesteps=4, sensor=(34, 34))
    measured = measure_model(graph, [data]).measured
    write_plots(file.with_name("plots"), rate_plots(rates(measured)))  # fonts are looked for, and kept, once
    return measured


WRITERS: dict[str, Callable[[Graph, Any, Path], object]] = {
    "graph": lambda graph, _, path: save_graph(graph, path / "x.tcja"),
    "profile": lambda graph, _, path: save_profile(
        fit(graph, [synthetic_frames(graph, 2)], linear=True), path / "x.safetensors"
    ),
    "counts": lambda _, measured, path: save_activity(measured.activity, path / "x.npz"),
    "report": lambda _, measured, path: write_text(
        path / "x.html", lambda suffix: rates_document(rates(measured), {}, suffix)
    ),
    "plots": lambda _, measured, path: write_plots(path / "plots", rate_plots(rates(measured))),
    **{
        f"{target} {options}": lambda graph, _, path, target=target, options=options: td.export(
            graph, target, path / f"x.{target}", data=[synthetic_frames(graph, 1)], verify=False, **options
        )
        for target, options in (
            ("onnx", {}),
            ("onnx", {"external_data": True}),
            ("onnx-step", {}),
            ("nir", {"gate": "mean"}),
            ("nir", {"gate": "split"}),
            ("lava", {}),
        )
    },
}


@pytest.mark.parametrize("name", WRITERS)
def test_writing_fails_whole(graph: Graph, measured: Any, tmp_path: Path, name: str) -> None:
    with full_after(300), pytest.raises(ExportError, match=r"writing failed|File too large") as caught:
        WRITERS[name](graph, measured, tmp_path)
    assert caught.value.exit_code == 8
    assert list(tmp_path.iterdir()) == []


def test_memory_and_stack_that_run_out_are_told_from_python(graph: Graph, tmp_path: Path) -> None:
    def endless() -> Iterator[Any]:
        yield np.zeros(1 << 60, np.uint8)

    with pytest.raises(FileFormatError, match="more memory than there is"):
        td.export(graph, "onnx", tmp_path / "x.onnx", data=endless())
    assert list(tmp_path.iterdir()) == []
