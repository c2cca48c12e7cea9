"""Readers by themselves, called in this process many times a second: no command around them, no process for a foreign parser.

What a foreign parser would have read (HDF5 trees, arrays, ONNX messages) is damaged after it was read, and given to the code
that judges it.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import mutations as m
import numpy as np
import weight_damage as w
from fuzz_targets import Target, graph_of_corpus
from made import CORPUS
from parts_damage import arrays_of, files_of, named_arrays, packed, parts, plain, tree_of

from tcja_deploy.errors import DeployError, FileFormatError

_SMALL = 1 << 18


# -- files of weights, all tensors read ---------------------------------------------------------------------------------
def _tensors(found: Any) -> Iterator[Any]:
    from tcja_deploy.torch_file.machine import Foreign
    from tcja_deploy.torch_file.tensors import StoredTensor

    pending, seen = [found], set()
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, StoredTensor):
            yield value
        elif isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list | tuple):
            pending += value
        elif isinstance(value, Foreign):
            pending += [value.arguments, value.state, value.items, value.elements]


def _weights(path: Path) -> object:
    from tcja_deploy.torch_file.read import read_weights

    found = read_weights(path)
    for tensor in _tensors(found):
        for read in (tensor.array, tensor.mapped):
            try:
                read()
            except DeployError:
                continue
    return found


def _state_dict(path: Path) -> object:
    """The weights, as far as a network takes them: chosen, named, read, their layout recognised."""
    from tcja_deploy.frontend.state_dicts import choose
    from tcja_deploy.frontend.weights import arrays
    from tcja_deploy.torch_file.read import read_weights

    return arrays(choose(read_weights(path), None).entries)


# -- exports whose containers are sound ------------------------------------------------------------------------------
def _document(files: dict[str, Any]) -> dict[str, Any]:
    document = plain(files.get("manifest.json"))
    assert isinstance(document, dict)
    return document


def _bundle(path: Path) -> object:
    """A bundle whose containers are sound, used."""
    from tcja_deploy.exporters.lava import bundle, netfile, stage_files
    from tcja_deploy.runtime.integers.twin import Twin

    files = files_of(path)
    manifest = {**_document(files), "files": {name: {} for name in files if isinstance(name, str)}}
    with (
        patch.object(bundle, "intact_manifest", lambda path: manifest),
        patch.object(netfile, "read_hdf5_files", lambda paths: [tree_of(files, p.name) for p in paths]),
        patch.object(stage_files, "read_npz", lambda file: arrays_of(files, file.name)),
        patch.object(bundle, "read_npz", lambda file: arrays_of(files, file.name)),
    ):
        found = bundle.read_bundle(path)
        found.golden()
    network = found.network
    frames = np.zeros((network.frames, 1, *network.host_input.shape), np.float32)
    return Twin(network).run(frames) if frames.size < _SMALL else found


def _split(path: Path) -> object:
    """The section of a split export, its constant gates held against the network."""
    from tcja_deploy.exporters.nir import artifact

    files = files_of(path)
    manifest = {**_document(files), "files": {name: {} for name in files if isinstance(name, str)}}
    with (
        patch.object(artifact, "read_manifest", lambda file, target: manifest),
        patch.object(artifact, "check_files", lambda folder, manifest: None),
    ):
        section = artifact._section(path)
    return artifact._constant_gates(section.get("gates", {}), graph_of_corpus(), path)


def _nir(path: Path) -> object:
    from tcja_deploy.nir_file import container
    from tcja_deploy.nir_file.load import load_nir

    tree = tree_of({"x": pickle.loads(path.read_bytes())}, "x")
    with patch.object(container, "read_hdf5", lambda path: tree):
        return load_nir(path)


def _step_notes(path: Path) -> object:
    """A step model, as far as its notes are held against what it takes and gives."""
    from tcja_deploy.exporters.onnx_step import run

    said = files_of(path)
    notes, inputs, outputs = (said.get(key) for key in ("notes", "inputs", "outputs"))
    if not isinstance(notes, dict) or not all(isinstance(v, str) for v in notes.values()):
        raise FileFormatError("no notes")
    if not isinstance(inputs, dict) or not inputs or not isinstance(outputs, list):
        raise FileFormatError("no model")
    if not all(isinstance(a, list) and all(type(d) in (int, str) for d in a) for a in inputs.values()):
        raise FileFormatError("no model")
    if not all(isinstance(o, str) for o in outputs):
        raise FileFormatError("no model")
    model = SimpleNamespace(
        inputs=inputs, outputs=outputs, lacking=lambda names: [], start=lambda show: None, close=lambda: None
    )
    with (
        patch.object(run, "onnx_metadata", lambda path: notes),
        patch.object(run, "Model", lambda path, trusted: model),
    ):
        return run.OnnxStepper(path)


def _onnx_looked_at(path: Path) -> object:
    """The looks at a model before anything runs; what onnx itself raises is told by whoever asks."""
    from tcja_deploy.reading.onnx_file import onnx_metadata
    from tcja_deploy.runtime.onnx.session import _Worker

    onnx_metadata(path)
    try:
        return _Worker().read(path)
    except DeployError:
        raise
    except Exception as error:
        raise FileFormatError("not readable") from error


# -- JSON and arrays ----------------------------------------------------------------------------------------------------
def _documents(path: Path) -> object:
    """A document against every structure that is known; at least its own fits."""
    from tcja_deploy.exporters import manifest
    from tcja_deploy.exporters.lava.manifest_section import STRUCTURE
    from tcja_deploy.exporters.nir import artifact
    from tcja_deploy.exporters.onnx_step import run
    from tcja_deploy.nir_file import notes
    from tcja_deploy.reading.json_text import check_structure, read_json
    from tcja_deploy.runtime import resume
    from tcja_deploy.runtime.activity import file
    from tcja_deploy.runtime.stream import saved

    document = read_json(path, object)
    for structure in (
        manifest._STRUCTURE, STRUCTURE, artifact._SECTION, artifact._NOTES, run._STATES, notes._STRUCTURE, resume._STRUCTURE,
        file._STRUCTURE, saved._STRUCTURE,
    ):  # fmt: skip
        try:
            check_structure(document, structure)
        except ValueError:
            continue
    return manifest.manifest_target(path)


def _npz(path: Path) -> object:
    from tcja_deploy.reading.arrays import npy_header, npz_headers, read_npz

    if path.suffix == ".npy":
        return npy_header(path)
    npz_headers(path)
    return read_npz(path)


def _counts(path: Path) -> object:
    """Counts, merged with themselves: twice the same recordings are refused."""
    from tcja_deploy.runtime.activity.file import activity_of
    from tcja_deploy.runtime.activity.record import Activity

    arrays = arrays_of({"x": pickle.loads(path.read_bytes())}, "x")
    found = activity_of(arrays, str(path))
    Activity.merge([found])
    return found


@functools.cache
def _watches() -> list[Any]:
    from tcja_deploy.runtime.activity.file import load_activity
    from tcja_deploy.runtime.activity.record import Watch

    found = load_activity(CORPUS / "act.npz")
    return [
        Watch(
            v.name,
            v.features,
            v.steps,
            {key: np.ones((1,) * (1 + len(v.features)), np.int64) for key in v.maps[1:]},
        )
        for v in found.values.values()
    ]


def _shards(path: Path) -> object:
    """What an interrupted run has kept, taken up again."""
    from tcja_deploy.runtime import resume
    from tcja_deploy.runtime.activity.file import load_activity
    from tcja_deploy.runtime.activity.predicted import Outcomes
    from tcja_deploy.runtime.activity.shards import Shards

    arrays = arrays_of({"x": pickle.loads(path.read_bytes())}, "x")
    known = load_activity(CORPUS / "act.npz")
    total = int(known.samples[-1]) + 1
    kept = resume.KeptProgress(("fuzz",), resume=True)
    kept.folder = path.parent / "progress"
    kept.folder.mkdir(exist_ok=True)
    (kept.folder / "0.npz").touch()
    windows: Any = SimpleNamespace(flush=lambda recorder: None)
    with (
        patch.object(resume, "read_npz", lambda path: dict(arrays)),
        patch.object(resume, "__version__", "fuzz"),
    ):
        kept.about({"model": "x"})
        outcomes = Outcomes(total)
        shards = Shards(_watches(), known.origin, total, windows, outcomes, kept)
        for i in range(total):
            shards.has(range(i, i + 1))
        found = shards.finish()
        outcomes.finish(10, None, None)
        return found


# -- recordings, lists, options -----------------------------------------------------------------------------------------
def _recording(path: Path) -> object:
    """A recording by its reader alone: told by its content, read, its label, its list of recordings."""
    from tcja_deploy.events.formats import find_reader, is_recording

    shape = (5, 2, 34, 34)
    is_recording(path)
    reader = find_reader(path)
    source = reader.many(path, shape) if reader.many is not None else None
    if source is not None:
        return [source.read(i) for i in range(min(len(source.names), 3))]
    if reader.label is not None:
        reader.label(path)
    return reader.read(path, shape)


def _classes(path: Path) -> object:
    from tcja_deploy.events.classes import number_classes, read_classes

    names = read_classes(str(path))
    for order in ("text", "number"):
        number_classes(names, outputs=len(names), order=order)
    return number_classes(names[:2], outputs=4, classes=names)


def _options(path: Path) -> object:
    """Options as they are written on a command line, and a model read with them."""
    import tcja_deploy
    from tcja_deploy.cli.options import _settings
    from tcja_deploy.cli.values import frame_shape, microseconds, sensor_size
    from tcja_deploy.reading.limits import parse_limits

    texts = (path.read_text("utf-8", "surrogateescape").split(";") + [""] * 7)[:7]
    _told(parse_limits, texts[0])
    _told(microseconds, texts[1])
    _told(sensor_size, texts[2])
    _told(lambda text: _settings([text]), texts[3])
    shape = _told(frame_shape, texts[4])
    T = _number(int, texts[5])
    file, known = (("tiny.nir", {"dt": _number(float, texts[6])}), ("tiny.pth", {"input_shape": shape}))[
        len(texts[0]) % 2
    ]
    if file == "tiny.nir":
        from tcja_deploy.nir_file import container
        from tcja_deploy.nir_file.load import load_nir

        with patch.object(container, "read_hdf5", lambda path: pickle.loads(packed("nir.tree"))):
            return load_nir(CORPUS / file, T, **known)
    return tcja_deploy.load(CORPUS / file, timesteps=T, **known)


def _number(kind: Any, text: str) -> Any:
    """As the command line understands it."""
    try:
        return kind(text)
    except (ValueError, OverflowError):
        return None


def _told(parse: Any, text: str) -> Any:
    try:
        return parse(text)
    except DeployError:
        return None


_ODD_TEXTS = (
    "", "-1", "0", "1e400", "nan", "inf", "9" * 5000, "9" * 300 + "GB", "1" * 400 + "ms", "\x1b[2J", "\u0663", "2,34",
    "2,34,34,1", "0,0,0", "-1,2,2", "1_0,34,34", "2,999999999,999999999", "=", "T=", "a b=1", "é=1", "99999x99999",
    ".5us", "0.0000001s", "1e3ms", "2**62", str(2**62), str(2**63), str(2**200), "1,1,1", "100000000", "1e-300",
    "1e300", "-0.0", "4GB,4GB", "1s,2s", "1 GB , 2 s",
)  # fmt: skip


def _texts(data: bytes, rng: Random) -> bytes:
    """Options, some of them odd."""
    texts = data.decode("utf-8", "surrogateescape").split(";")
    for _ in range(rng.choice([1, 1, 2, 3])):
        at = rng.randrange(len(texts))
        texts[at] = rng.choice(
            [*_ODD_TEXTS, texts[at] * rng.choice([1, 2]), m.flip(texts[at].encode(), rng).decode("latin1")]
        )
    return ";".join(texts).encode("utf-8", "surrogateescape")


INNER = {
    target.name: target
    for target in (
        Target(
            "weights, archive",
            ("rich.pt", "tiny.pth"),
            (w.pickle_opcodes, w.archive_records, m.flip),
            _weights,
        ),
        Target(
            "weights, legacy", ("rich_legacy.pt", "tiny_legacy.pth"), (m.flip, w.pickle_opcodes), _weights
        ),
        Target("weights, pickle", ("plain.pkl",), (m.flip, w.pickle_opcodes), _weights),
        Target("weights, tar", ("old.tar",), (m.flip, w.pickle_opcodes), _weights),
        Target(
            "weights, safe",
            ("rich.safetensors",),
            (m.flip, w.safetensors_entries, m.safetensors_header),
            _weights,
        ),
        Target(
            "weights, chosen", ("tiny.pth", "rich.pt"), (w.pickle_opcodes, w.archive_records), _state_dict
        ),
        Target(
            "npz", ("one.npz", "gate_0.npz"), (w.in_members(w.npy_header), w.archive_records, m.flip), _npz
        ),
        Target("npy", ("rows.npy", "frames.npy"), (w.npy_header, m.flip), _npz),
        Target("documents", ("lava.json", "split.json"), (m.json_text, m.flip), _documents),
        Target("counts", ("counts.arrays",), (named_arrays,), _counts, bytes_read=False),
        Target("progress", ("progress.arrays",), (named_arrays,), _shards, bytes_read=False),
        Target("onnx, looked at", ("tiny.onnx", "tiny.step.onnx"), (m.flip, m.onnx_model), _onnx_looked_at),
        Target("step, notes", ("step.notes",), (parts,), _step_notes, bytes_read=False),
        Target("nir, tree", ("nir.tree",), (parts,), _nir, bytes_read=False),
        Target("bundle, chain", ("bundle.chain",), (parts,), _bundle, bytes_read=False),
        Target("split, parts", ("split.parts",), (parts,), _split, bytes_read=False),
        Target("bundle, graph", ("bundle.graph",), (parts,), _bundle, bytes_read=False),
        Target(
            "events, npz",
            ("one.npz",),
            (w.in_members(w.npy_header), m.zip_members, w.archive_records),
            _recording,
        ),
        Target("events, npy", ("rows.npy", "frames.npy"), (w.npy_header, m.odd_npy, m.flip), _recording),
        Target("events, torch", ("frames.pt",), (w.pickle_opcodes, w.archive_records, m.flip), _recording),
        Target("events, aedat", ("two.aedat", "three.aedat", "one.bin"), (m.flip,), _recording),
        Target("events, text", ("rows.csv",), (m.flip, m.cells), _recording),
        Target("classes", ("classes.txt",), (m.flip, m.cells), _classes),
        Target("options", ("options.txt",), (_texts,), _options),
    )
}
"""By name."""
