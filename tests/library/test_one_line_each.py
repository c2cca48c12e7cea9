"""The Python interface: any model, any recordings, one line each; the same numbers as the command line's parts give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import tcja_deploy as td
from tcja_deploy.energy.measure import measure
from tcja_deploy.energy.report.rates import rates as find_rates
from tcja_deploy.errors import DataError, ExportError, UsageError
from tcja_deploy.ir import ops as ir
from tcja_deploy.ir.builder import GraphBuilder
from tcja_deploy.passes.fold import fold_batch_norm

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "tcja_deploy" / "data" / "nmnist_checkpoint_max.pth"
DATA = ROOT / "tests" / "data" / "n-mnist" / "Test"


@pytest.fixture(scope="module")
def graph() -> Any:
    return td.load(MODEL)


@pytest.fixture(scope="module")
def frames(graph: Any) -> tuple[np.ndarray, np.ndarray]:
    data = td.open_data(graph, DATA)
    return np.stack([data[i][0] for i in range(len(data))], axis=1), np.array(
        [data[i][1] for i in range(len(data))]
    )


@pytest.fixture(scope="module")
def rates(graph: Any) -> Any:
    return td.rates(graph, DATA, progress=False)


def test_rates_are_those_of_the_parts(graph: Any, rates: Any) -> None:
    expected = find_rates(measure(graph, td.open_data(graph, DATA), counted=fold_batch_norm(graph)))
    assert rates.rates.neurons == expected.neurons
    assert rates.accuracy == 1.0
    frame = rates.frame()
    assert list(frame["value"][:5]) == ["conv.1", "conv.4", "conv.8", "fc.3", "fc.6"]
    assert frame["rate_mean"][0] == expected.neurons[0].rate.mean


def test_a_model_in_any_form(graph: Any, rates: Any) -> None:
    assert td.rates(str(MODEL), DATA, progress=False).rates == rates.rates


def test_recordings_in_any_form(graph: Any, frames: Any, rates: Any) -> None:
    pictures, labels = frames
    batch_first = torch.tensor(pictures).transpose(0, 1)
    forms: list[Any] = [
        (pictures, labels),
        [(pictures[:, :3], labels[:3]), (pictures[:, 3:], labels[3:])],
        [(batch_first[:7].numpy(), labels[:7]), (batch_first[7:].numpy(), labels[7:])],
        DataLoader(TensorDataset(batch_first, torch.tensor(labels)), batch_size=4),
    ]
    for form in forms:
        found = td.rates(graph, form, progress=False)
        assert found.rates.neurons == rates.rates.neurons
        assert found.accuracy == rates.accuracy
    assert td.rates(graph, pictures, progress=False).accuracy is None


def test_a_square_batch_is_read_as_its_giver_does(graph: Any, frames: Any) -> None:
    """T recordings of T frames: arrays come time first, what a DataLoader gives batch first."""
    pictures, labels = frames
    assert pictures.shape[0] == pictures.shape[1] == graph.T
    data = td.open_data(graph, (pictures, labels))
    assert np.array_equal(data[3][0], pictures[:, 3])
    loader = DataLoader(
        TensorDataset(torch.tensor(pictures).transpose(0, 1), torch.tensor(labels)), batch_size=graph.T
    )
    assert np.array_equal(td.open_data(graph, loader)[3][0], pictures[:, 3])


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("size", [10, 4])  # the first is as many as there are steps
def test_images_and_windows_are_not_mixed(graph: Any, frames: Any, order: int, size: int) -> None:
    pictures, _ = frames
    assert pictures.shape[0] == 10
    with pytest.raises(DataError, match="images and others windows"):
        td.open_data(graph, [pictures[:, :size], pictures[0]][::order])


def test_silence_and_frames_of_another_kind_are_told_as_on_the_command_line(graph: Any) -> None:
    b = GraphBuilder(10)
    pixels = b.add("flat", ir.Flatten(), b.add("input", ir.Input((2, 34, 34))))
    weights = ir.Linear(np.full((3, 2 * 34 * 34), 1e-9, np.float32))
    quiet = b.finish(b.add("neurons", ir.LIF(), b.add("sum", weights, pixels)))
    silent = td.rates(quiet, np.ones((10, 2, 2, 34, 34), np.float32), progress=False)
    assert silent.facts["silence"].startswith("no neuron of the network spikes")
    assert "frames" not in silent.facts
    fractions = td.rates(graph, np.full((10, 1, 2, 34, 34), 0.5, np.float32), progress=False)
    assert "the frames hold fractions, but the model takes event counts" in fractions.facts["frames"]


def test_images_are_shown_at_every_step(graph: Any, frames: Any) -> None:
    data = td.open_data(graph, frames[0][4])
    assert "each of the 10 steps" in data.notes[0]
    assert np.array_equal(data[2][0], np.repeat(frames[0][4, 2][None], graph.T, axis=0))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (np.zeros((3, 2, 34, 35), np.float32), "frames of shape"),
        ((np.zeros((10, 3, 2, 34, 34), np.float32), np.zeros(2, np.int64)), "3 recordings and 2 labels"),
        ((np.zeros((10, 3, 2, 34, 34), np.float32), np.zeros(3)), "are not class indices"),
        ([np.zeros((10, 3, 2, 34, 34)), np.zeros((3, 10, 2, 34, 34))], "others"),
        ([], "holds no recordings"),
        (np.zeros((10, 0, 2, 34, 34), np.float32), "holds no recordings"),
        (np.full((10, 1, 2, 34, 34), "a"), "are not numbers"),
    ],
)
def test_recordings_that_do_not_fit(graph: Any, data: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        td.rates(graph, data, progress=False)


def test_wrong_use(graph: Any, frames: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="about files"):
        td.rates(graph, frames, limit=2)
    with pytest.raises(UsageError, match="read already"):
        td.inspect(graph, timesteps=4)
    with pytest.raises(UsageError, match="holds no recordings that this can read"):
        td.rates(graph, 7)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="either recordings"):
        td.energy(graph)
    with pytest.raises(UsageError, match="either recordings"):
        td.energy(graph, DATA, activity=tmp_path / "a.npz")


def test_energy_from_recordings_and_from_kept_counts(graph: Any, rates: Any, tmp_path: Path) -> None:
    kept = rates.save_counts(tmp_path / "counts.npz")
    direct = td.energy(graph, DATA, conventions=["paper"], progress=False)
    again = td.energy(graph, activity=kept, conventions=["paper"])
    assert direct.estimates == again.estimates
    frame = direct.frame()
    assert frame["energy_pJ"][0] == direct.estimates[0].energy_pJ.mean
    with pytest.raises(UsageError, match="kept already"):
        td.energy(graph, activity=kept, limit=3)


def test_the_package_is_the_function_too() -> None:
    import tcja_deploy.energy.render.formats

    assert callable(td.energy)
    assert td.energy.render.formats is tcja_deploy.energy.render.formats  # type: ignore[attr-defined]


def test_results_show_themselves(graph: Any, rates: Any, tmp_path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    assert "conv.8" in str(rates)
    assert "<table>" in rates._repr_html_()
    assert rates.plot().get_xlabel() == "spikes per neuron and step / %"
    assert rates.plot("rates_over_time").get_xlabel() == "time step"
    with pytest.raises(UsageError, match="no plot 'x'"):
        rates.plot("x")
    for suffix in (".html", ".json", ".csv", ".tex", ".md"):
        assert rates.save(tmp_path / f"rates{suffix}").stat().st_size > 100
    assert json.loads((tmp_path / "rates.json").read_text())["kind"] == "tcja-deploy firing rates"
    with pytest.raises(ExportError):
        rates.save(tmp_path / "rates.json")
    with pytest.raises(UsageError):
        rates.save(tmp_path / "rates.xlsx")


def test_inspect(graph: Any) -> None:
    found = td.inspect(MODEL)
    assert found.macs == 8_495_872
    assert len(found.frame()) == len(list(graph))
    assert json.loads(found.document(".json"))["kind"] == "tcja-deploy inspection"


def test_stream(graph: Any) -> None:
    found = td.stream(graph, DATA, limit=4, progress=False)
    found.require_agreement()
    assert found.exact
    assert found.outcome.accuracy == 1.0
    assert found.agreement.mismatches == 0
    assert dict(zip(found.frame()["quantity"], found.frame()["value"], strict=True))["latency"] == 0
    assert "work" in found.document(".csv")


def test_the_names_are_there_before_anything_heavy() -> None:
    assert {"rates", "energy", "stream", "inspect", "compare", "open_data"} <= set(dir(td))
    with pytest.raises(AttributeError):
        _ = td.nothing  # type: ignore[attr-defined]
