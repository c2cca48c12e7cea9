"""Bundles: written whole, read back equal, refused when anything is off."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import write_bundle
from integer_nets import random_frames, random_network
from test_netfile import assert_same

from tcja_deploy.errors import ExportError, FileFormatError, UnsupportedError
from tcja_deploy.exporters import manifest as manifests
from tcja_deploy.exporters.lava.bundle import read_bundle
from tcja_deploy.exporters.lava.integrity import seal
from tcja_deploy.exporters.lava.schedule import latency, parts
from tcja_deploy.exporters.manifest import read_manifest
from tcja_deploy.files import sha256
from tcja_deploy.reading.limits import Limits, limited
from tcja_deploy.runtime.integers.layers import GateStage, LayerStage
from tcja_deploy.runtime.integers.network import HostInput, Readout
from tcja_deploy.runtime.integers.twin import Twin


@pytest.fixture
def written(tmp_path):
    network = random_network(5, gates=2, kind="add")
    write_bundle(network, tmp_path / "b", random_frames(network, 1), about={"model": {"sha256": "00"}})
    return tmp_path / "b", network


def rewrite_manifest(path: Path, change) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    manifest["manifest_sha256"] = seal(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


def relist(path: Path, name: str) -> None:
    """Put a changed file's size and hash right."""
    facts = {"sha256": sha256(path / name), "bytes": (path / name).stat().st_size}
    rewrite_manifest(path, lambda m: m["files"].__setitem__(name, facts))


@pytest.mark.parametrize(("seed", "kind"), [(0, "both"), (1, "add"), (2, "tla"), (3, "cla")])
def test_round_trip(seed, kind, tmp_path):
    network = random_network(seed, gates=2, kind=kind, binary=seed % 2 == 0)
    host = network.host_input
    if host.binary:
        readout = Readout(np.arange(18.0).reshape(3, 6), np.array([1.0, 2, 3]), vote=3)
        network = replace(network, readout=readout)
    frames = random_frames(network, 1)
    write_bundle(network, tmp_path / "b", frames, about={})
    read = read_bundle(tmp_path / "b")
    assert read.network.name == network.name
    assert read.network.frames == network.frames
    for one, other in zip(read.network.stages, network.stages, strict=True):
        assert type(one) is type(other)
        if isinstance(one, LayerStage):
            assert_same(one, other)
    names = [stage.name for stage in network.stages]
    original, again = (Twin(n).run(frames, record=names) for n in (network, read.network))
    payload, golden = read.golden()
    np.testing.assert_array_equal(payload, frames)
    for name in names:
        np.testing.assert_array_equal(original.recorded[name], again.recorded[name])
        np.testing.assert_array_equal(original.recorded[name], golden[name])
    np.testing.assert_array_equal(original.values, again.values)


def test_host_pooling_is_stored(tmp_path):
    network = random_network(0)
    small = network.stages[0].in_shape
    rows = np.kron(np.eye(small[1], dtype=np.int64), [[1, 1]])
    columns = np.eye(small[2], dtype=np.int64)
    host = HostInput((2, 2 * small[1], small[2]), False, 9, 1, rows, columns, 2)
    network = replace(network, host_input=host)
    frames = np.random.default_rng(0).integers(0, 4, (network.frames, 1, *host.shape))
    write_bundle(network, tmp_path / "b", frames, about={})
    read = read_bundle(tmp_path / "b").network
    np.testing.assert_array_equal(Twin(read).run(frames).payload, Twin(network).run(frames).payload)


def test_manifest_states_timing_and_contents(written):
    path, network = written
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["lava"]["frames"] == 8
    assert manifest["lava"]["latency"] == latency(network) == len(network.stages) - 2 + 2 * 7
    assert [p["kind"] for p in manifest["lava"]["parts"]] == ["segment", "gate", "segment", "gate", "segment"]
    for part in manifest["lava"]["parts"]:
        if part["kind"] == "segment":
            assert part["reset_offset"] == part["arrives"] + 1
    assert manifest["model"] == {"sha256": "00"}
    for name, facts in manifest["files"].items():
        assert facts == {"sha256": sha256(path / name), "bytes": (path / name).stat().st_size}
    assert {"golden.npz", "segment_2.net", "gate_1.npz", "runner/run_bundle.py"} <= set(manifest["files"])


def test_latency_of_the_dvs128_topology():
    """Seven blocks, a gate, one block, a gate, two blocks at T = 20: 48 steps (measured in Lava, see
    docs/lava.md)."""
    steps = [part.times[-1].leaves for part in parts(random_network(0))]
    assert steps == [len(random_network(0).stages)]
    # 7 + 19 + 1 + 19 + 2
    network = random_network(1, gates=2, frames=20)
    layers = sum(isinstance(stage, LayerStage) for stage in network.stages)
    assert latency(network) == layers + 2 * 19


def test_nothing_is_overwritten_or_left_without_force(written):
    path, network = written
    frames = random_frames(network, 1)
    with pytest.raises(ExportError, match="something at this path"):
        write_bundle(network, path, frames, about={})
    write_bundle(network, path, frames, about={"changed": True}, force=True)
    assert read_manifest(path / "manifest.json", "lava")["changed"] is True
    with pytest.raises(TypeError, match="not JSON serializable"):  # the very last step fails
        write_bundle(network, path.with_name("new"), frames, about={"what": object()})
    assert [p.name for p in path.parent.iterdir()] == ["b"]


def test_what_lava_gets_wrong_is_not_written(tmp_path):
    network = random_network(0)
    first = replace(network.stages[0], threshold=np.asarray(131072))
    with pytest.raises(UnsupportedError, match="never be exceeded"):
        write_bundle(replace(network, stages=(first, *network.stages[1:])), tmp_path / "b", None, about={})
    assert list(tmp_path.iterdir()) == []


def test_damage_to_any_file_is_found(written):
    """Each file in turn: a byte less, a bit flipped, nothing left, gone, a folder in its place."""
    path, _ = written
    names = [p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()]
    assert {"manifest.json", "segment_0.net", "gate_0.npz", "runner/run_bundle.py"} <= set(names)
    for name in names:
        file = path / name
        data = file.read_bytes()
        flipped = bytearray(data)
        flipped[len(data) // 2] ^= 1
        where = r"manifest\.json" if name == "manifest.json" else f"{name}: "
        for damaged in (data[:-2], bytes(flipped), b"", None):
            file.unlink()
            if damaged is not None:
                file.write_bytes(damaged)
            with pytest.raises(FileFormatError, match=where):
                read_bundle(path)
        file.mkdir()
        with pytest.raises(FileFormatError, match=where):
            read_bundle(path)
        file.rmdir()
        file.write_bytes(data)
    read_bundle(path)


@pytest.mark.parametrize("name", ["notes.txt", "runner/tcja_gate/more.py", "gate_9.npz"])
def test_foreign_files_are_refused(written, name):
    """Lava's model search would execute a script beside a process when the bundle is run by hand."""
    path, _ = written
    (path / "runner" / "tcja_gate" / "__pycache__").mkdir()  # what a run by hand leaves
    (path / "runner" / "tcja_gate" / "__pycache__" / "process.cpython-310.pyc").write_bytes(b"")
    read_bundle(path)
    (path / name).write_text("")
    with pytest.raises(FileFormatError, match=f"{name}: does not belong to the export"):
        read_bundle(path)


def test_unreadable_files_are_named(written, monkeypatch):
    path, _ = written

    def denied(file):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(manifests, "sha256", denied)
    with pytest.raises(FileFormatError, match=r"golden\.npz: cannot be read \(Permission denied\)"):
        read_bundle(path)


def test_a_golden_sample_of_other_shapes_is_refused(written):
    path, _ = written
    golden = dict(np.load(path / "golden.npz"))
    golden["stage_1"] = golden["stage_1"][:-1]
    np.savez_compressed(path / "golden.npz", **golden)
    relist(path, "golden.npz")
    with pytest.raises(FileFormatError, match="does not fit the network"):
        read_bundle(path).golden()


def test_paths_stay_inside(written, tmp_path):
    path, _ = written
    outside = tmp_path / "outside.npz"
    shutil.copy(path / "golden.npz", outside)
    facts = {"sha256": sha256(outside), "bytes": outside.stat().st_size}
    rewrite_manifest(path, lambda m: m["files"].__setitem__("../outside.npz", facts))
    with pytest.raises(FileFormatError, match="lies outside the export"):
        read_bundle(path)
    rewrite_manifest(path, lambda m: m["files"].pop("../outside.npz"))
    (path / "golden.npz").unlink()
    (path / "golden.npz").symlink_to(outside)
    with pytest.raises(FileFormatError, match="lies outside the export"):
        read_bundle(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.__setitem__("format", "other"), "not the manifest of an export to lava"),
        (lambda m: m.__setitem__("format_version", 99), "has version 99, this program reads 2"),
        (lambda m: m.__setitem__("format_version", "1"), "has version '1'"),
        (lambda m: m.pop("files"), "files is missing"),
        (lambda m: m["files"].pop("gate_0.npz"), "gate_0.npz: does not belong"),
        (lambda m: m["lava"].pop("parts"), "incomplete or wrong"),
        (
            lambda m: m["lava"]["parts"][0]["layers"][0].__setitem__("in_shape", [1, 2]),
            "incomplete or wrong|does not fit",
        ),
        (lambda m: m["lava"]["parts"][0].__setitem__("reset_offset", 0), "contradicts the files in: parts"),
        (lambda m: m["lava"].__setitem__("latency", 3), "contradicts the files in: latency"),
        (lambda m: m["lava"]["parts"][0].__setitem__("file", "../../etc/passwd"), "does not list it"),
    ],
)
def test_manifests_that_do_not_fit_are_refused(written, change, words):
    path, _ = written
    rewrite_manifest(path, change)
    with pytest.raises(FileFormatError, match=words):
        read_bundle(path)


def test_a_folder_without_manifest_or_with_rubbish(tmp_path):
    with pytest.raises(FileFormatError, match="no manifest"):
        read_bundle(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(FileFormatError, match="not readable JSON"):
        read_bundle(tmp_path)
    (tmp_path / "manifest.json").write_text("[1]")
    with pytest.raises(FileFormatError, match="is a list"):
        read_bundle(tmp_path)


def test_archives_that_would_explode_are_refused(written):
    path, _ = written
    np.savez_compressed(path / "gate_0.npz", table=np.zeros(1 << 26))
    relist(path, "gate_0.npz")
    with limited(Limits(memory=1 << 28)), pytest.raises(FileFormatError, match="the limit is 256 MB"):
        read_bundle(path)


def test_pickles_are_refused(written):
    path, _ = written
    np.savez(path / "gate_0.npz", table=np.array([{}], dtype=object))
    relist(path, "gate_0.npz")
    with pytest.raises(FileFormatError, match="pickled object array"):
        read_bundle(path)


def by_hand(folder, python):
    """The bundle's own runner, as someone without this program would start it."""
    return subprocess.run(
        [python, "-I", folder / "runner" / "run_bundle.py"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_bundle_runs_by_itself(written, lava_python):
    """Only the folder and a Lava environment: the golden sample, stage by stage."""
    path, network = written
    moved = path.with_name("elsewhere")
    path.rename(moved)
    answer = by_hand(moved, lava_python)
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.strip().splitlines()
    assert len(lines) == len(network.stages)
    assert all(line.endswith(" 0 mismatches") for line in lines)
    golden = dict(np.load(moved / "golden.npz"))
    index = next(i for i, stage in enumerate(network.stages) if isinstance(stage, GateStage))
    golden[f"stage_{index}"] = golden[f"stage_{index}"] + 1
    np.savez(moved / "golden.npz", **golden)
    answer = by_hand(moved, lava_python)
    assert answer.returncode == 1
    assert f"{golden[f'stage_{index}'].size} mismatches" in answer.stdout


def test_writing_needs_no_lava():
    code = "import sys, tcja_deploy.exporters.lava; assert not [m for m in sys.modules if m == 'lava' or m.startswith('lava.')]"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_bundle_is_shown(written, tmp_path):
    """From Python as on the command line."""
    import tcja_deploy as td

    path, network = written
    found = td.inspect(path)
    table = found.tables()[0]
    rows = found.frame()
    assert list(rows["stage"]) == [stage.name for stage in network.stages]
    assert list(rows["leaves_step"])[-1] == found.latency == latency(network)
    assert (
        f"Latency {latency(network)} steps; N windows take 8 N + {latency(network)}; each gate"
        in table.notes[0]
    )
    assert table.notes[1] == "On the host: a mean over time, a vote of 2."
    assert all(stage.name in str(found) for stage in network.stages)
    assert "<table>" in found._repr_html_()
    assert found.plot().has_data()
    for suffix in (".html", ".json", ".csv", ".tex", ".md"):
        assert found.save(tmp_path / f"bundle{suffix}").stat().st_size > 50
    assert json.loads((tmp_path / "bundle.json").read_text())["latency"] == latency(network)
    with pytest.raises(td.DeployError, match="timesteps, dt: these say how to read a model") as told:
        td.inspect(path, timesteps=3, dt=1.0)
    assert told.value.hint == "leave them out"
