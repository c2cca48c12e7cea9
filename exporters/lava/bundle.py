"""The bundle: a folder with everything that a Lava run needs, and no references to anything outside it.

manifest.json       parts in order with their timing, shapes, units, readout, hashes, versions
segment_<k>.net     layers in a row, for netx
<kind>_<k>.npz      parameters of a gate, synapse, population (neuron), relay or window program
host.npz            pooling and readout matrices of the host, if there are any
golden.npz          one sample: payloads, results, and the spikes or payloads of every stage
runner/             run_bundle.py and its Lava processes
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import FileFormatError, GraphError
from tcja_deploy.exporters.lava.integrity import intact_manifest
from tcja_deploy.exporters.lava.lint import check
from tcja_deploy.exporters.lava.manifest_section import STRUCTURE, describe
from tcja_deploy.exporters.lava.netfile import read_nets, write_net
from tcja_deploy.exporters.lava.schedule import parts
from tcja_deploy.exporters.lava.stage_files import LARGEST, array, read_stage, stage_arrays
from tcja_deploy.reading.arrays import read_npz
from tcja_deploy.reading.json_text import check_structure
from tcja_deploy.reading.limits import check_bytes
from tcja_deploy.runtime.integers import gate_arithmetic, stage_arithmetic, window
from tcja_deploy.runtime.integers.edges import AnyStage
from tcja_deploy.runtime.integers.layers import LayerStage
from tcja_deploy.runtime.integers.network import HostInput, IntegerNetwork, Readout
from tcja_deploy.runtime.integers.stages import NeuronStage
from tcja_deploy.runtime.integers.twin import Twin, encode

__all__ = ["Bundle", "copy_runner", "golden_arrays", "read_bundle", "write_parts"]

RUNNER = Path(__file__).parent / "runner"


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A bundle that has been read and checked.

    Attributes:
        path: Its folder.
        network: The integer network, read from the same files that Lava will read.
        section: The section of manifest.json about Lava.
    """

    path: Path
    network: IntegerNetwork
    section: dict[str, Any]

    def golden(self) -> tuple[NDArray[np.int64], dict[str, NDArray[np.int64]]]:
        """The sample: payloads `[T, 1, ...]` and for each stage its spikes or payloads `[T, 1, ...]`.

        Raises:
            FileFormatError: If arrays do not fit the network.
        """
        file = self.path / "golden.npz"
        arrays = read_npz(file)
        stages = {}
        try:
            for index, stage in enumerate(self.network.stages):
                shape = (self.network.frames, 1, *stage.out_shape)
                value = array(arrays, f"stage_{index}", file)
                if isinstance(stage, LayerStage | NeuronStage):
                    value = np.unpackbits(value, count=prod(shape))
                stages[stage.name] = value.reshape(shape).astype(np.int64)
            payload = array(arrays, "payload", file)
            host = self.network.host_input
            if payload.dtype.kind not in "iu" or payload.shape != (self.network.frames, 1, *host.out_shape):
                raise ValueError(f"payloads of {payload.dtype} {payload.shape}")
            return payload.astype(np.int64), stages
        except (TypeError, ValueError) as error:
            raise FileFormatError(f"does not fit the network ({error})", where=str(file)) from None


def copy_runner(folder: Path) -> None:
    """Copy the runner, with the arithmetic that the twin uses too, into a new folder."""
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(RUNNER, folder, ignore=without)
    shutil.copy(str(gate_arithmetic.__file__), folder / "tcja_gate" / "gate_arithmetic.py")
    shutil.copy(str(stage_arithmetic.__file__), folder / "tcja_stages" / "stage_arithmetic.py")
    shutil.copytree(Path(str(window.__file__)).parent, folder / "tcja_window" / "window", ignore=without)


def write_parts(network: IntegerNetwork, folder: Path) -> None:
    """Write segments, single stages, the host's matrices and the runner into an empty folder.

    Raises:
        UnsupportedError: If Lava would compute something else.
    """
    check(network)
    for part, entry in zip(parts(network), describe(network)["parts"], strict=True):
        if part.layers:
            write_net(folder / entry["file"], part.layers)
        else:
            np.savez_compressed(folder / entry["file"], **stage_arrays(part.stages[0]))
    host = _host_arrays(network)
    if host:
        np.savez_compressed(folder / "host.npz", **host)  # type: ignore[arg-type]
    copy_runner(folder / "runner")


def read_bundle(path: Path) -> Bundle:
    """Read and check a bundle.

    Raises:
        FileFormatError: If a file is missing, changed or unlisted, or contents do not fit together.
    """
    manifest = intact_manifest(path)
    try:
        section = check_structure(manifest.get("lava"), STRUCTURE)
        network = _network(path, section, manifest["files"])
        for stage in network.stages:
            values = (
                8
                * network.frames
                * max(*(prod(edge.shape) for edge in network.arrives(stage)), prod(stage.out_shape))
            )
            check_bytes(values, "one window of this stage", where=f"{path}: {stage.name}")
    except GraphError as error:
        raise FileFormatError(f"the parts do not fit together: {error}", where=str(path)) from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FileFormatError(
            f"the manifest is incomplete or wrong ({type(error).__name__}: {error})",
            where=str(path / "manifest.json"),
            hint="export the bundle again",
        ) from None
    same = describe(network)
    changed = sorted(key for key, value in same.items() if section.get(key) != value)
    if changed:
        raise FileFormatError(
            f"the manifest contradicts the files in: {', '.join(changed)}", where=str(path / "manifest.json")
        )
    return Bundle(path, network, section)


def _network(path: Path, section: dict[str, Any], listed: Mapping[str, Any]) -> IntegerNetwork:
    def inside(name: str) -> Path:
        if name not in listed:
            raise FileFormatError(f"the manifest uses {name!r} but does not list it", where=str(path))
        return path / name

    stages: list[AnyStage] = []
    segments = [entry for entry in section["parts"] if entry["kind"] == "segment"]
    nets = iter(read_nets([(inside(entry["file"]), entry["layers"]) for entry in segments]))
    for entry in section["parts"]:
        inputs = tuple(entry.get("inputs", ()))
        if entry["kind"] == "segment":
            first, *others = next(nets)
            stages += [replace(first, inputs=inputs), *others]
        else:
            stages.append(read_stage(inside(entry["file"]), entry, int(section["frames"]), inputs))
    host = read_npz(inside("host.npz")) if "host.npz" in listed else {}
    about, readout = section["input"], section["readout"]
    _check_host(path, about, readout, host)
    return IntegerNetwork(
        str(section["name"]),
        int(section["frames"]),
        HostInput(
            tuple(about["shape"]),
            bool(about["binary"]),
            int(about["peak"]),
            int(about["scale"]),
            host.get("rows"),
            host.get("columns"),
            int(about["unit"]),
            tuple(int(limb) for limb in about["limbs"]),
        ),
        tuple(stages),
        Readout(
            host.get("weight"),
            host.get("bias"),
            int(readout["vote"]),
            bool(readout["time_mean"]),
            readout.get("function"),
        ),
    )


def _check_host(
    path: Path, about: dict[str, Any], readout: dict[str, Any], host: dict[str, NDArray[Any]]
) -> None:
    """Check that what the host does before and after the network is possible.

    Raises:
        FileFormatError: If it is not.
    """
    kinds = {"rows": ("iu", 2), "columns": ("iu", 2), "weight": ("f", 2), "bias": ("f", 1)}
    for key, value in host.items():
        kind, rank = kinds.get(key, ("", 0))
        if (
            value.dtype.kind not in kind
            or value.ndim != rank
            or not value.size
            or not np.isfinite(value).all()
        ):
            raise FileFormatError(
                f"holds {key} that is not what the host computes with", where=str(path / "host.npz")
            )
    shape, limbs = about["shape"], about["limbs"]
    positive = (
        *shape,
        *limbs,
        about["scale"],
        about["unit"],
        about["peak"],
        readout["vote"],
        len(shape),
        len(limbs),
    )
    if min(positive) < 1 or max(positive) > LARGEST or len(shape) not in (1, 3):
        raise FileFormatError(
            "the manifest's input or readout is not possible", where=str(path / "manifest.json")
        )
    if readout.get("function") not in (None, "sigmoid", "tanh"):
        raise FileFormatError("the readout's function is not known", where=str(path / "manifest.json"))
    pooled = [(host.get("rows"), 1), (host.get("columns"), 2)]
    if any(m is not None and (len(shape) != 3 or m.shape[1] != shape[axis]) for m, axis in pooled):
        raise FileFormatError("holds pooling that does not fit the input", where=str(path / "host.npz"))


def _host_arrays(network: IntegerNetwork) -> dict[str, NDArray[Any]]:
    host, readout = network.host_input, network.readout
    arrays = {"rows": host.rows, "columns": host.columns, "weight": readout.weight, "bias": readout.bias}
    return {key: value for key, value in arrays.items() if value is not None}


def golden_arrays(network: IntegerNetwork, sample: NDArray[np.generic]) -> dict[str, NDArray[Any]]:
    """Arrays of the golden sample `[T, 1, ...]`: payloads, results, and the values of each stage, spikes packed into bits."""
    run = Twin(network).run(sample, record=[stage.name for stage in network.stages])
    arrays: dict[str, NDArray[Any]] = {
        "payload": encode(network.host_input, sample).astype(np.int32),
        "values": run.values,
    }
    for index, stage in enumerate(network.stages):
        value = run.recorded[stage.name]
        arrays[f"stage_{index}"] = (
            np.packbits(value.ravel()) if isinstance(stage, LayerStage | NeuronStage) else value
        )
    return arrays
