"""Files of others are opened in one place each: nobody else calls the libraries that open them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("tcja_deploy", "exporters", "energy", "hardware_profiles")
RUN_BY_LAVA = ROOT / "exporters" / "lava" / "runner"
"""Scripts of another Python, which know nothing of this package."""

READERS: dict[str, set[str]] = {
    r"\bjson\.loads?\(": {
        "tcja_deploy/reading/json_text.py",
        "tcja_deploy/reading/messages.py",  # what a process of this package says
        "tcja_deploy/reading/child.py",  # what it is told
        "exporters/manifest.py",  # what it has just made
        "exporters/lava/environment.py",  # what an interpreter prints that the user named
        "exporters/lava/driver.py",  # what it writes
    },
    r"\b(np|numpy)\.(load|fromfile|loadtxt|genfromtxt)\(": {
        "tcja_deploy/reading/arrays.py",
        "tcja_deploy/events/formats/atis.py",  # bytes, as they are
        "tcja_deploy/events/formats/text.py",  # after its own look at the first lines
        "exporters/lava/driver.py",
    },
    r"\bzipfile\.(ZipFile|is_zipfile)\(": {
        "tcja_deploy/reading/archives.py",
    },
    r"\bh5py\.File\([^)]*\"r": {"tcja_deploy/reading/hdf5.py", "tcja_deploy/events/formats/hdf5.py"},
    r"\bfaery\.events_stream_from_file\(": {"tcja_deploy/events/formats/camera.py"},
    r"\btorch\.load\(": {"tcja_deploy/frontend/load.py"},  # with --trust-pickle alone
    r"\bpickle\.loads?\(|\bimport pickle\b": set(),
    r"\btarfile\.open\(": {"tcja_deploy/torch_file/legacy.py"},
    r"\btomllib\.loads?\(": {"hardware_profiles/loader.py"},
    r"\bonnx\.load|onnx\.ModelProto\.FromString": {"tcja_deploy/runtime/onnx/session.py"},
    r"\bonnxruntime\.InferenceSession\(": {"tcja_deploy/runtime/onnx/session.py"},
    r"\bsafe_open\(|\bload_file\(|from safetensors\S* import [^\n]*\bload|import safetensors": {
        "tcja_deploy/reading/messages.py",  # what a process of this package says
    },
}
"""Calls, and the files that may make them."""


def test_nobody_else_opens_such_files() -> None:
    calls: dict[str, set[str]] = {pattern: set() for pattern in READERS}
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*.py")):
            if RUN_BY_LAVA not in file.parents:
                text = file.read_text()
                for pattern, found in calls.items():
                    if re.search(pattern, text):
                        found.add(file.relative_to(ROOT).as_posix())
    strangers = {p: sorted(found - READERS[p]) for p, found in calls.items() if found - READERS[p]}
    assert strangers == {}
