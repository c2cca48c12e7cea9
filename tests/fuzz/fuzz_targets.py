"""What is fuzzed: every reader of files, with files of the corpus that it reads and the kinds of damage that fit them."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import mutations as m
import numpy as np
from made import CORPUS, content

Mutation = Callable[[bytes, Random], bytes]


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        name: Of the reader.
        files: Files of the corpus.
        mutations: Kinds of damage.
        read: Reads a file; may raise a `DeployError`.
        needs: A package that writes and reads the files, if it is one that may be missing.
        bytes_read: Whether it reads bytes, and not what another reader made of them.
    """

    name: str
    files: tuple[str, ...]
    mutations: tuple[Mutation, ...]
    read: Callable[[Path], object]
    needs: str = ""
    bytes_read: bool = True


def _model(path: Path) -> object:
    import tcja_deploy

    return tcja_deploy.load(path)


def _activity(path: Path) -> object:
    from tcja_deploy.runtime.activity.file import load_activity

    return load_activity(path)


def _recording(path: Path) -> object:
    from tcja_deploy.events import open_data

    data = open_data(path, timesteps=5, sensor=(34, 34), channels=2, split_by="time", resize="nearest")
    return [data[i] for i in range(min(len(data), 3))]


def run_onnx(path: Path) -> object:
    """A model opened, and run on zeros unless its inputs are large."""
    from tcja_deploy.artifacts import artifact_target
    from tcja_deploy.runtime.onnx.session import Model

    artifact_target(path)
    model = Model(path)
    try:
        model.start()
        shapes = {
            name: [d if isinstance(d, int) else 1 for d in shape] for name, shape in model.inputs.items()
        }
        sizes = [int(np.prod(shape, dtype=object)) for shape in shapes.values()]
        if min(sizes, default=0) > 0 and max(sizes) < 1 << 20:
            return model.run({n: np.zeros(s, np.float32) for n, s in shapes.items()}, model.outputs)
        return model
    finally:
        model.close()


def _step(path: Path) -> object:
    from tcja_deploy.exporters.onnx_step.run import OnnxStepper

    stepper = OnnxStepper(path)
    try:
        return stepper.push(np.zeros((1, 2, 34, 34), np.float32))
    finally:
        stepper.close()


def _segment(path: Path) -> object:
    from tcja_deploy.exporters.lava.netfile import read_nets

    described = next(
        p for p in json.loads((CORPUS / "lava.json").read_bytes())["lava"]["parts"] if p["kind"] == "segment"
    )
    return read_nets([(path, described["layers"])])


def _json(path: Path) -> object:
    from tcja_deploy.artifacts import artifact_target

    folder = path.with_name("folder")
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_bytes(path.read_bytes())
    return artifact_target(folder)


def _split(path: Path) -> object:
    """The whole of a split export, with a manifest whose seal is right again."""
    from tcja_deploy.exporters.manifest import SEAL, read_manifest, seal

    try:
        content = json.loads(path.read_bytes())
        content[SEAL] = seal(content)
        path.write_text(json.dumps(content))
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    return read_manifest(path, "nir")


def _arrays(path: Path) -> object:
    from tcja_deploy.reading.arrays import read_npz

    return read_npz(path)


@functools.cache
def graph_of_corpus() -> Any:
    """The network that files of the corpus belong to."""
    import tcja_deploy

    return tcja_deploy.load(CORPUS / "tiny.tcja")


def _profile(path: Path) -> object:
    from tcja_deploy.runtime.stream.saved import load_profile

    return load_profile(graph_of_corpus(), path)


def _labels(path: Path) -> object:
    from tcja_deploy.events import open_data

    folder = path.with_name("labelled")
    folder.mkdir(exist_ok=True)
    for name in ("a", "b"):
        (folder / f"{name}.npz").write_bytes(content("one.npz"))
    return open_data(folder, timesteps=5, sensor=(34, 34), split_by="time", labels=path, outputs=10)


def _trials(path: Path) -> object:
    from tcja_deploy.events import open_data

    folder = path.with_name("trials")
    folder.mkdir(exist_ok=True)
    (folder / "user_labels.csv").write_bytes(path.read_bytes())
    (folder / "user.aedat").write_bytes(content("three.aedat"))
    data = open_data(folder, timesteps=5, sensor=(34, 34), split_by="time", outputs=11)
    return [data[i] for i in range(min(len(data), 3))]


def _prices(path: Path) -> object:
    from tcja_deploy.hardware_profiles import load_profile

    return load_profile(str(path))


def _state(path: Path) -> object:
    from tcja_deploy.runtime.stream import plan
    from tcja_deploy.runtime.stream.saved import state_from_bytes

    return state_from_bytes(plan(graph_of_corpus()), path.read_bytes())


TARGETS = {
    target.name: target
    for target in (
        Target("tcja", ("tiny.tcja",), (m.flip, m.safetensors_header, m.safetensors_header), _model),
        Target("checkpoint", ("tiny.pth",), (m.flip, m.zip_members), _model),
        Target("legacy", ("tiny_legacy.pth",), (m.flip,), _model),
        Target("activity", ("act.npz",), (m.flip, m.zip_members, m.zip_members), _activity),
        Target("recording", ("one.npz", "one.bin"), (m.flip, m.zip_members), _recording),
        Target("safetensors", ("weights.safetensors",), (m.flip, m.safetensors_header), _model),
        Target("columns", ("columns.h5", "rows.h5", "tonic.hdf5"), (m.flip, m.hdf5, m.hdf5), _recording),
        Target("text", ("rows.csv",), (m.flip, m.cells, m.cells), _recording),
        Target("frames", ("rows.npy", "frames.npy"), (m.flip, m.odd_npy), _recording),
        Target("tensors", ("frames.pt",), (m.flip, m.zip_members, m.torch_content), _recording),
        Target("aedat", ("two.aedat", "three.aedat"), (m.flip,), _recording),
        Target("aedat4", ("four.aedat4",), (m.flip,), _recording, "faery"),
        Target("evt", ("two.raw", "three.raw"), (m.flip,), _recording, "faery"),
        Target("dat", ("two.dat",), (m.flip,), _recording, "faery"),
        Target("es", ("stream.es",), (m.flip,), _recording, "faery"),
        Target("labels", ("labels.csv",), (m.flip, m.cells), _labels),
        Target("trials", ("trials.csv",), (m.flip, m.cells), _trials),
        Target("prices", ("prices.toml",), (m.flip, m.cells), _prices),
        Target("state", ("state.safetensors",), (m.flip, m.safetensors_header), _state),
        Target("arrays", ("gate_0.npz", "act.npz", "one.npz"), (m.flip, m.zip_members), _arrays),
        Target("profile", ("prof.safetensors",), (m.flip, m.safetensors_header), _profile),
        Target("manifest", ("lava.json", "split.json"), (m.flip, m.json_text), _json),
        Target("split", ("split.json",), (m.flip, m.json_text), _split),
        Target("nir", ("tiny.nir",), (m.flip, m.hdf5, m.hdf5), _model),
        Target("segment", ("segment_0.net",), (m.flip, m.hdf5), _segment),
        Target("onnx", ("tiny.onnx",), (m.flip, m.onnx_model, m.onnx_model), run_onnx),
        Target("step", ("tiny.step.onnx",), (m.flip, m.onnx_model, m.onnx_model), _step),
    )
}
"""Readers by name."""


def damaged(target: Target, rng: Random) -> tuple[str, bytes]:
    """A file of a target by its name, and what damage makes of it."""
    name = rng.choice(target.files)
    data = content(name)
    for _ in range(rng.choice([1, 1, 1, 2])):
        try:
            data = rng.choice(target.mutations)(data, rng)
        except Exception:  # what an earlier damage left is not of the format any more
            data = m.flip(data, rng) if target.bytes_read else data
    return name, data
