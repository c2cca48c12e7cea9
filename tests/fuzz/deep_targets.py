"""Readers without the checks that refuse most damage at once: checksums, seals and lists of ops are left out or right again.

What lies behind those checks is reached by whoever makes a file on purpose. What was read is used, too: graphs run, counts
become reports.
"""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import mutations as m
import numpy as np
from fuzz_targets import Target, graph_of_corpus, run_onnx
from kept import kept
from made import exports

_SMALL = 1 << 20


def used(graph: Any) -> object:
    """A graph as commands use it: shown, folded, run, unless it is large."""
    from tcja_deploy.library.inspection import Inspection
    from tcja_deploy.passes import fold_batch_norm
    from tcja_deploy.runtime.sequence import run

    Inspection(graph, "net").document(".json")
    sizes = [node.signal.features for node in graph]
    work = sum(node.op.macs(*graph.signals_in(node), T=graph.T) for node in graph)
    elements = graph.T * sum(int(np.prod(size, dtype=object)) for size in sizes)
    folded = fold_batch_norm(graph)
    if elements < _SMALL and work < 100 * _SMALL:
        return run(folded, np.zeros((graph.T, 1, *graph.input_shape), np.float32))
    return folded


class _Equal(str):
    """A checksum that is any other."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __ne__(self, other: object) -> bool:
        return False


def _graph(path: Path) -> object:
    """A graph whose checksum is taken for right."""
    from tcja_deploy import ir_file

    with patch.object(ir_file, "_checksum", lambda graph: _Equal()):
        graph = ir_file.load_graph(path)
    return used(graph)


def _model(path: Path) -> object:
    import tcja_deploy

    return used(tcja_deploy.load(path))


def _onnx(path: Path) -> object:
    """A model that no list of ops is held against: limits alone stand between it and the machine."""
    from tcja_deploy.reading.limits import Limits, limited

    with limited(Limits(seconds=6.0)), kept("onnx_unguarded:worker"):
        return run_onnx(path)


def _activity(path: Path) -> object:
    """Counts, as far as the report that is written of them."""
    from tcja_deploy.energy.count.model import kept_activity
    from tcja_deploy.energy.render.documents import rates_document
    from tcja_deploy.energy.report.rates import rates
    from tcja_deploy.runtime.activity.record import Activity

    graph = graph_of_corpus()
    with patch.object(Activity, "origin", {"model": graph.hash}, create=True):
        found = kept_activity(graph, path)
        return rates_document(rates(found.measured), {}, ".json")


def _folder(path: Path, target: str) -> Path:
    """A folder of an export, unpacked from an archive, with hashes and seal that are right."""
    from tcja_deploy.exporters.manifest import NAME, SEAL, file_facts, seal

    folder = path.with_suffix(".folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    manifest = folder / NAME
    try:
        content = json.loads(manifest.read_bytes())
        content["files"] = file_facts(folder, [f for f in folder.rglob("*") if f.is_file() and f != manifest])
        content[SEAL] = seal(content)
        manifest.write_text(json.dumps(content))
    except (ValueError, TypeError, AttributeError, RecursionError, FileNotFoundError):
        pass
    return folder


def _bundle(path: Path) -> object:
    from tcja_deploy.exporters.lava.bundle import read_bundle
    from tcja_deploy.runtime.integers.twin import Twin

    bundle = read_bundle(_folder(path, "lava"))
    bundle.golden()
    frames = np.zeros((bundle.network.frames, 1, *bundle.network.host_input.shape), np.float32)
    return Twin(bundle.network).run(frames) if frames.size < _SMALL else bundle


def _split(path: Path) -> object:
    from tcja_deploy.exporters.nir.artifact import read_nir_artifact

    graph = graph_of_corpus()
    return read_nir_artifact(_folder(path, "nir")).run(np.zeros((graph.T, 1, *graph.input_shape), np.float32))


def _one_file(target: str) -> Any:
    """A mutation: an export with one of its files damaged, as an archive of the folder."""

    def damage(_: bytes, rng: Random) -> bytes:
        files = dict(exports()[target])
        known = {
            ".json": m.json_text,
            ".npz": m.zip_members,
            ".net": m.hdf5,
            ".nir": m.hdf5,
            ".tcja": m.safetensors_header,
        }
        name = rng.choice([n for n in files if Path(n).suffix in known])
        change = known[Path(name).suffix] if rng.random() < 0.85 else m.flip
        try:
            files[name] = change(files[name], rng)
        except Exception:  # it has no such part
            files[name] = m.flip(files[name], rng)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for key, content in files.items():
                archive.writestr(key, content)
        return out.getvalue()

    return damage


DEEP = {
    target.name: target
    for target in (
        Target("graph, used", ("tiny.tcja",), (m.safetensors_header, m.floats), _graph),
        Target("checkpoint, used", ("tiny.pth",), (m.torch_content, m.zip_members), _model),
        Target("nir, used", ("tiny.nir",), (m.hdf5,), _model),
        Target("onnx, any op", ("tiny.onnx",), (m.onnx_model, m.onnx_bomb), _onnx),
        Target("activity, reported", ("act.npz",), (m.zip_members,), _activity),
        Target("bundle, sealed", ("gate_0.npz",), (_one_file("lava"),), _bundle),
        Target("split, sealed", ("gate_0.npz",), (_one_file("nir"),), _split),
    )
}
"""By name."""
