"""Every file of the package that reads files or what came from one, and the fuzz targets that run it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("tcja_deploy", "exporters", "energy", "hardware_profiles")

READS = re.compile(
    r"""\.open\((\"rb\"|encoding)|\bread_(bytes|text)\(|\bnp\.(load|fromfile|loadtxt|memmap)\(|\btomllib\.load|\bh5py\.File\("""
    r"""|\b(read_json|parse_json|read_npz|npz_headers|map_npy|npy_header|read_hdf5|read_hdf5_files|open_archive)\("""
    r"""|\b(listed_archive|read_weights|read_safetensors|read_part|first_bytes|onnx_metadata|read_manifest|listed_files|shlex\.split)\("""
    r"""|events_stream_from_file|\btarfile\.open|ModelProto\.FromString|InferenceSession\(|\btorch\.load\("""
)
"""What a file that reads has in it."""

NOT_OF_OTHERS = {
    "exporters/lava/driver.py",  # what the runner writes that this program has started
    "exporters/lava/runner/assemble.py",  # a program of Lava's own Python; the bundle was read and checked before
    "exporters/lava/runner/run_bundle.py",
    "tcja_deploy/files/__init__.py",  # bytes, for checksums
    "tcja_deploy/library/schemas.py",  # of the package itself
    "tcja_deploy/runtime/events/compiling.py",  # sources of the package itself
    "tcja_deploy/runtime/threads.py",  # of the system
}
"""Files that read nothing that anybody else wrote."""

READERS: dict[str, tuple[str, ...]] = {
    "exporters/companions.py": ("card", "beside"),
    "exporters/lava/bundle.py": ("bundle, chain", "bundle, sealed"),
    "exporters/lava/integrity.py": ("bundle, sealed",),
    "exporters/lava/netfile.py": ("segment",),
    "exporters/lava/stage_files.py": ("bundle, graph",),
    "exporters/manifest.py": ("manifest", "split"),
    "exporters/nir/artifact.py": ("split, parts",),
    "exporters/onnx/recognise.py": ("onnx",),
    "exporters/onnx_step/run.py": ("step", "step, notes"),
    "hardware_profiles/loader.py": ("prices",),
    "tcja_deploy/cli/remembered.py": ("remembered",),
    "tcja_deploy/events/cache.py": ("kept frames",),
    "tcja_deploy/events/classes.py": ("classes",),
    "tcja_deploy/events/folders.py": ("labels",),
    "tcja_deploy/events/formats/aedat.py": ("aedat", "events, aedat"),
    "tcja_deploy/events/formats/arrays.py": ("labelled",),
    "tcja_deploy/events/formats/atis.py": ("events, aedat",),
    "tcja_deploy/events/formats/base.py": ("events, text",),
    "tcja_deploy/events/formats/camera.py": ("aedat4", "evt", "dat", "es"),
    "tcja_deploy/events/formats/hdf5.py": ("columns",),
    "tcja_deploy/events/formats/numpy_files.py": ("events, npy", "events, npz"),
    "tcja_deploy/events/formats/packed.py": ("labelled",),
    "tcja_deploy/events/formats/text.py": ("text", "events, text"),
    "tcja_deploy/events/formats/torch_files.py": ("tensors", "events, torch"),
    "tcja_deploy/events/trials.py": ("trials",),
    "tcja_deploy/frontend/load.py": ("checkpoint", "safetensors", "legacy"),
    "tcja_deploy/frontend/rewrite.py": ("tune",),
    "tcja_deploy/ir_file.py": ("tcja", "graph, used"),
    "tcja_deploy/meters/powercap.py": ("meter",),
    "tcja_deploy/nir_file/container.py": ("nir", "nir, tree"),
    "tcja_deploy/nir_file/notes.py": ("nir",),
    "tcja_deploy/reading/archives.py": ("arrays", "npz"),
    "tcja_deploy/reading/arrays.py": ("arrays", "npz", "npy"),
    "tcja_deploy/reading/beginning.py": ("checkpoint",),
    "tcja_deploy/reading/hdf5.py": ("nir",),
    "tcja_deploy/reading/json_text.py": ("documents",),
    "tcja_deploy/reading/onnx_file.py": ("onnx, looked at",),
    "tcja_deploy/runtime/activity/file.py": ("activity", "counts"),
    "tcja_deploy/runtime/onnx/session.py": ("onnx", "onnx, any op"),
    "tcja_deploy/runtime/resume.py": ("progress",),
    "tcja_deploy/runtime/stream/saved.py": ("profile", "state"),
    "tcja_deploy/torch_file/archive.py": ("weights, archive",),
    "tcja_deploy/torch_file/legacy.py": ("weights, legacy", "weights, pickle", "weights, tar"),
    "tcja_deploy/torch_file/read.py": ("weights, archive",),
    "tcja_deploy/torch_file/safe.py": ("weights, safe",),
    "tcja_deploy/torch_file/tensors.py": ("weights, legacy",),
}
"""Every other file that reads, and the targets that read by it."""


def reading_files() -> set[str]:
    """Files of the package that read, relative to the checkout."""
    return {
        file.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for file in (ROOT / folder).rglob("*.py")
        if READS.search(file.read_text())
    }
