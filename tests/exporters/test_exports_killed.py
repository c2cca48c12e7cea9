"""An export that replaces an earlier one and is killed at any rename, link or flush leaves the earlier one or the new one."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
from killing import killed_at

import tcja_deploy as td
from tcja_deploy import zoo
from tcja_deploy.ir import Graph
from tcja_deploy.runtime.synthetic import synthetic_frames

CHANGES = ("os.rename", "os.link", "os.symlink", "ctypes.dlsym")
JOBS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "onnx": ("onnx", "x.onnx", {}),
    "onnx with data": ("onnx", "x.onnx", {"external_data": True}),
    "onnx-step": ("onnx-step", "x.step.onnx", {}),
    "nir mean": ("nir", "x.nir", {"gate": "mean"}),
    "nir split": ("nir", "x.split", {"gate": "split"}),
    "lava": ("lava", "x.lava", {}),
}

EARLIER = {"onnx": {"external_data": True, "card": True}}
"""Options of what is replaced, where it has files that the new one has not."""


def network(seed: int) -> Graph:
    return zoo.build("events34", T=5, channels=(4, 4, 4), hidden=16, classes=9, seed=seed)


def seen(folder: Path) -> dict[str, bytes]:
    """What is there for whoever opens files."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and ".tcja-deploy." not in str(p.relative_to(folder))
    }


def numbers(found: dict[str, bytes]) -> dict[str, bytes]:
    """Without manifests, which tell the time."""
    return {name: data for name, data in found.items() if "manifest" not in name}


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_a_killed_export_leaves_the_earlier_one_or_the_new_one(tmp_path: Path, name: str) -> None:
    target, file, options = JOBS[name]
    earlier, later = network(0), network(1)
    frames = [synthetic_frames(earlier, 1)]
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    for folder, graph, other in (("old", earlier, EARLIER.get(name, {})), ("new", later, {})):
        td.export(graph, target, tmp_path / folder / file, data=frames, verify=False, **options, **other)
    old, new = seen(tmp_path / "old"), seen(tmp_path / "new")
    work = tmp_path / "work"

    def replace() -> None:
        td.export(later, target, work / file, data=frames, verify=False, force=True, **options)

    for k in itertools.count(1):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(tmp_path / "old", work)
        alive = not killed_at(k, replace, CHANGES)
        found = seen(work)
        whole = found == old or (found.keys() == new.keys() and numbers(found) == numbers(new))
        changed = sorted(n for n in found if found[n] != old.get(n))
        assert whole, f"killed at change {k}: {changed} are new, {sorted(found.keys() - new.keys())} are left"
        if alive:
            break
    assert numbers(found) == numbers(new)
    assert k > 4
