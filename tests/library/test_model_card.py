"""Model cards: a YAML head that YAML's own parser reads, numbers that are those of manifest and report, for every target."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tcja_deploy as td
from tcja_deploy.errors import ExportError, UnsupportedError, UsageError
from tcja_deploy.exporters.manifest import seal
from tcja_deploy.exporters.targets import TARGETS
from tcja_deploy.files import sha256
from tcja_deploy.ir import Graph, GraphBuilder, Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.library.yaml_text import to_yaml

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "tcja_deploy" / "data" / "nmnist_checkpoint_max.pth"
DATA = ROOT / "tests" / "data" / "n-mnist" / "Test"


def net(name: str = "sum") -> Graph:
    """A small network that every target takes."""
    rng = np.random.default_rng(0)
    b = GraphBuilder(4)
    x = b.add("flat", ir.Flatten(), b.add("input", ir.Input((2, 6, 6), Kind.BINARY)))
    x = b.add(name, ir.Linear(rng.normal(0, 0.3, (12, 72)).astype(np.float32)), x)
    x = b.add("spikes", ir.LIF(), x)
    x = b.add("classes", ir.Linear(rng.normal(0, 0.5, (3, 12)).astype(np.float32)), x)
    return b.finish(b.add("mean", ir.TimeMean(), b.add("out", ir.LIF(), x)))


def frames(count: int) -> np.ndarray:
    return (np.random.default_rng(1).random((4, count, 2, 6, 6)) < 0.3).astype(np.float32)


def parts(card: Path) -> tuple[dict[str, Any], str]:
    """The head as the parser reads it, and the body."""
    opened, head, body = card.read_text(encoding="utf-8").split("---\n", 2)
    assert opened == ""
    return yaml.safe_load(head), body


def shown(body: str, quantity: str) -> str:
    """The value beside a quantity in a table of the body."""
    found = re.search(rf"^\| {re.escape(quantity)} \| (.*) \|$", body, re.MULTILINE)
    assert found is not None, quantity
    return found[1]


def check(card: Path, manifest: Path, target: str) -> dict[str, Any]:
    """Every number of the card beside the manifest."""
    head, body = parts(card)
    entries = json.loads(manifest.read_text())
    found, model, parity = head["tcja_deploy"], entries["model"], entries["parity"]
    assert head["library_name"] == "tcja-deploy"
    assert target in head["tags"]
    assert found["target"] == entries["target"] == target
    assert (found["timesteps"], found["parameters"]) == (model["T"], model["parameters"])
    assert found["model_sha256"] == model["sha256"]
    assert found["source"] == model["source"]
    assert found["versions"] == entries["versions"]
    assert found["version"] == td.__version__
    assert found["parity"] == {name: parity[name] for name in found["parity"]}
    assert {"mismatches", "neuron_steps", "bound_mismatches_per_neuron_step"} <= set(found["parity"])
    assert set(found["comparisons"]) == set(entries["comparisons"])
    for name, compared in found["comparisons"].items():
        assert compared == {key: entries["comparisons"][name][key] for key in compared}
    assert found["notes"] == entries["notes"]
    approximated = [n["name"] for n in entries["nodes"] if n["fidelity"] == "approximated"]
    assert [n["node"] for n in found["approximated"]] == approximated
    own = card.relative_to(manifest.parent).as_posix()
    assert found["files"] == {name: facts for name, facts in entries["files"].items() if name != own}
    for name, facts in found["files"].items():
        assert sha256(manifest.parent / name) == facts["sha256"]
        assert facts["sha256"] in body
    assert entries["files"][own]["sha256"] == sha256(card)
    assert seal(entries) == entries["manifest_sha256"]
    assert shown(body, "mismatching spikes") == f"{parity['mismatches']:,}"
    assert shown(body, "of neuron-steps") == f"{parity['neuron_steps']:,}"
    assert (
        float(shown(body, "allowed mismatches per neuron-step"))
        == found["parity"]["bound_mismatches_per_neuron_step"]
    )
    assert shown(body, "parameters") == f"{model['parameters']:,}"
    assert shown(body, "dense MACs per inference") == f"{found['macs_per_inference']:,}"
    assert "arxiv.org/abs/2206.10177" in body
    return head


@pytest.mark.parametrize("target", TARGETS)
def test_beside_every_target(target: str, tmp_path: Path) -> None:
    pytest.importorskip("nir") if target == "nir" else None
    graph, recordings = net(), frames(3)
    made = td.export(graph, target, tmp_path / "net", data=recordings, card=True, progress=False)
    folder = made.path if made.path.is_dir() else tmp_path
    (card,) = [file for file in made.files if file.suffix == ".md"]
    manifest = next(file for file in made.files if file.name.endswith("manifest.json"))
    assert card.name == (
        "README.md" if folder == made.path else card.name.removesuffix(".card.md") + ".card.md"
    )
    found = check(card, manifest, target)["tcja_deploy"]
    assert found["macs_per_inference"] == 4 * (72 * 12 + 12 * 3)
    assert found["data"] == {
        "name": "array", "samples": 3, "sha256": td.open_data(graph, recordings).digest,
    }  # fmt: skip
    assert made.moved_spikes == tuple(found["differing_from_the_trained_network"].values())
    if target != "lava":  # the real Lava is asked in tests of its own
        assert td.verify(made.path, graph, recordings, progress=False).passed


def test_a_bundle_with_a_card_is_whole(tmp_path: Path) -> None:
    made = td.export(net(), "lava", tmp_path / "b", data=frames(2), card=True, progress=False)
    assert td.verify(made.path, backend="twin").passed
    (made.path / "README.md").write_text("changed")
    with pytest.raises(td.DeployError, match=r"README\.md: has 7 bytes"):
        td.verify(made.path, backend="twin")


def test_accuracy_and_energy_are_those_of_the_report(tmp_path: Path) -> None:
    graph = td.load(MODEL)
    rates = td.rates(graph, DATA, limit=4, progress=False)
    path = tmp_path / "m.onnx"
    td.export(graph, "onnx", path, data=DATA, limit=2, card=True, activity=rates, progress=False)
    head = check(tmp_path / "m.card.md", tmp_path / "m.manifest.json", "onnx")
    found = head["tcja_deploy"]
    report = td.energy(graph, activity=rates, conventions=["paper", "strict"], profiles=["asic45"])
    for one, estimate in zip(found["energy"], report.estimates, strict=True):
        assert estimate.energy_pJ is not None
        assert one["energy_pJ"] == estimate.energy_pJ.mean
        assert one["complete"] == estimate.complete
    (result,) = head["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "accuracy", "value": rates.accuracy, "name": "Accuracy"}]
    assert head["metrics"] == ["accuracy"]
    assert {"task", "dataset", "metrics"} == set(result)
    assert "tcja" in head["tags"]
    assert found["data"]["samples"] == 2
    assert found["energy_data"]["recordings"] == 4
    assert found["macs_per_inference"] == 10 * td.inspect(graph).macs
    body = parts(tmp_path / "m.card.md")[1]
    assert "3.245 µJ" in body


def test_a_hub_reads_it(tmp_path: Path) -> None:
    """Hugging Face's own reader, which makes records of `model-index` and refuses heads it cannot read."""
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    rates = td.rates(net(), (frames(3), np.array([0, 1, 2])), progress=False)
    td.export(net(), "onnx", tmp_path / "a.onnx", card=True, license="CC-BY-SA-4.0", activity=rates)
    read = hub.ModelCard.load(tmp_path / "a.card.md").data
    assert (read.license, read.library_name) == ("cc-by-sa-4.0", "tcja-deploy")
    assert {"onnx", "spiking-neural-network"} <= set(read.tags)
    (result,) = read.eval_results
    assert (result.metric_type, result.metric_value, result.metric_name) == (
        "accuracy",
        rates.accuracy,
        "Accuracy",
    )
    assert (result.task_type, result.dataset_name) == ("image-classification", "array")
    assert read.to_dict()["tcja_deploy"]["parity"]["passed"]
    td.export(net(), "onnx", tmp_path / "b.onnx", card=True)
    assert hub.ModelCard.load(tmp_path / "b.card.md").data.license == "unknown"


def test_without_verification_and_recordings(tmp_path: Path) -> None:
    td.export(net(), "onnx", tmp_path / "a.onnx", card=True, verify=False)
    head, body = parts(tmp_path / "a.card.md")
    assert head["tcja_deploy"]["parity"] is None
    assert "not verified" in body
    td.export(net(), "onnx", tmp_path / "b.onnx", card=True)
    assert parts(tmp_path / "b.card.md")[0]["tcja_deploy"]["data"] == {"synthetic_samples": 4}


def test_one_unit_with_the_artifact(tmp_path: Path) -> None:
    (tmp_path / "a.card.md").write_text("mine")
    with pytest.raises(ExportError, match=r"a\.card\.md"):
        td.export(net(), "onnx", tmp_path / "a.onnx", card=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.card.md"]
    td.export(net(), "onnx", tmp_path / "a.onnx", card=True, force=True)
    assert parts(tmp_path / "a.card.md")[0]["library_name"] == "tcja-deploy"


def test_what_replaces_an_export_replaces_its_card_and_its_weights(tmp_path: Path) -> None:
    first = td.export(net(), "onnx", tmp_path / "a.onnx", card=True, external_data=True)
    old = {"a.card.md", "a.onnx.data"}
    assert old < {file.name for file in first.files} == {p.name for p in tmp_path.iterdir()}
    with pytest.raises(ExportError, match="something at this path already"):
        td.export(net("other"), "onnx", tmp_path / "a.onnx")
    second = td.export(net("other"), "onnx", tmp_path / "a.onnx", force=True)
    assert {file.name for file in second.removed} == old
    assert {p.name for p in tmp_path.iterdir()} == {file.name for file in second.files}
    assert not old & {file.name for file in second.files}
    assert f"Removed {tmp_path / 'a.card.md'}, which" in " ".join(second.tables()[0].notes)
    assert json.loads(second.document(".json"))["removed"] == [str(tmp_path / name) for name in sorted(old)]
    assert td.verify(tmp_path / "a.onnx", net("other")).passed


def test_a_card_or_weights_without_their_model_are_in_the_way(tmp_path: Path) -> None:
    td.export(net(), "onnx", tmp_path / "a.onnx", card=True, external_data=True)
    for name in ("a.onnx", "a.golden.npz", "a.manifest.json"):
        (tmp_path / name).unlink()
    with pytest.raises(ExportError, match=r"already there: a\.card\.md, a\.onnx\.data"):
        td.export(net(), "onnx", tmp_path / "a.onnx")


def test_what_somebody_else_wrote_stays(tmp_path: Path) -> None:
    (tmp_path / "a.card.md").write_text("mine")
    for force in (False, True):
        assert td.export(net(), "onnx", tmp_path / "a.onnx", force=force, verify=False).removed == ()
    assert (tmp_path / "a.card.md").read_text() == "mine"


def test_every_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    monkeypatch.setattr(
        "tcja_deploy.exporters.manifest.sha256", lambda file: hashed.append(file.name) or sha256(file)
    )
    td.export(net(), "onnx", tmp_path / "a.onnx", card=True)
    assert sorted(hashed) == ["a.card.md", "a.golden.npz", "a.onnx"]


def test_wrong_use(tmp_path: Path) -> None:
    rates = td.rates(net(), frames(2), progress=False)
    with pytest.raises(UsageError, match="card=True"):
        td.export(net(), "onnx", tmp_path / "a.onnx", activity=rates)
    with pytest.raises(UsageError, match="card=True"):
        td.export(net(), "onnx", tmp_path / "a.onnx", license="mit")
    with pytest.raises(UsageError, match="not the identifier of a licence"):
        td.export("missing.pth", "onnx", tmp_path / "a.onnx", card=True, license="mine: all of it")
    with pytest.raises(UnsupportedError, match="recorded from network"):
        td.export(net("other"), "onnx", tmp_path / "a.onnx", card=True, activity=rates)
    assert list(tmp_path.iterdir()) == []


NAMES = [
    "a | b", "---", "yes", "1e5", "null", "é", "😀", "\x1b[31m", 'quote " and \\', "tab\tnew\nline", "\x85\u2028", "\ud800",
    "#", ": ", "<script>alert(1)</script>", "12:30:45", "=", "~",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_of_all_kinds(name: str) -> None:
    record = {
        "text": name,
        name: 1,
        "list": [name, {name: [name]}],
        "numbers": [1e-5, 0.1, -3e22, 1e300, 7, True, None],
    }
    kept = name.encode("utf-8", "backslashreplace").decode()
    expected = {"text": kept, kept: 1, "list": [kept, {kept: [kept]}], "numbers": record["numbers"]}
    assert yaml.safe_load(to_yaml(record)) == expected
    empty: dict[str, Any] = {"a": {}, "b": [], "c": [[], {}]}
    assert yaml.safe_load(to_yaml(empty)) == empty
    assert yaml.safe_load(to_yaml({"x": float("inf")}))["x"] == float("inf")


def test_a_node_with_a_name_that_is_markup(tmp_path: Path) -> None:
    graph = net("a|b --- # <b>")
    td.export(graph, "lava", tmp_path / "m", data=frames(2), card=True, progress=False)
    head, body = parts(tmp_path / "m" / "README.md")
    assert "a|b --- # <b>" in [n["node"] for n in head["tcja_deploy"]["approximated"]]
    assert "| a\\|b --- # &lt;b> |" in body
    assert "<b>" not in body
