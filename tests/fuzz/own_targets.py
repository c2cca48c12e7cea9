"""Readers of what the program itself has kept or writes again: caches, meters, words of manifests, what `tune` takes."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import mutations as m
import weight_damage as w
from fuzz_targets import Target, graph_of_corpus


def _kept_frames(path: Path) -> object:
    """Frames in the cache: those that are damaged are made again, without a word."""
    from tcja_deploy.events.cache import FrameCache

    cache, shape = FrameCache(path.with_name("cache")), (2, 5, 2, 34, 34)
    place = cache._path("key")
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, place)
    frames = cache.get("key", shape)
    assert frames is None or (frames.shape == shape and frames.dtype.kind in "uif")
    return frames


def _labelled(path: Path) -> object:
    """Frames with labels, as `benchmark` and `lava tune` take them."""
    from tcja_deploy.library.sources import labelled_batches, open_parts

    return [list(labelled_batches(part, 1)) for part in open_parts(graph_of_corpus(), path)]


def _tuned(path: Path) -> object:
    """A checkpoint as far as `lava tune` needs it: read, found to be writable, written again with other weights."""
    import tcja_deploy
    from tcja_deploy.frontend.rewrite import check_rewritable, save_like

    after = path.with_name("after.pth")
    graph = tcja_deploy.load(path)
    check_rewritable(path, graph, after)
    save_like(path, graph, graph, after, force=True)
    return after


def _meter(path: Path) -> object:
    """A machine whose counter of energy says odd things."""
    from tcja_deploy.meters.powercap import find_zones

    texts = (path.read_bytes().split(b";") + [b""] * 3)[:3]
    root = path.with_name("powercap")
    zone = root / "intel-rapl:0"
    zone.mkdir(parents=True, exist_ok=True)
    for name, text in zip(("name", "energy_uj", "max_energy_range_uj"), texts, strict=True):
        (zone / name).write_bytes(text)
    return find_zones(root)


def _remembered(path: Path) -> object:
    """What a manifest says of how its model was read."""
    from tcja_deploy.cli.remembered import parse_command_line

    return parse_command_line(path.read_text("utf-8", "surrogateescape"))


def _beside(path: Path) -> object:
    """A manifest beside an export that replaces a set: whose it is."""
    from tcja_deploy.errors import ExportError
    from tcja_deploy.exporters.companions import check_owner, set_names
    from tcja_deploy.exporters.targets import TARGETS

    path.replace(path.with_name("net.manifest.json"))
    (path.with_name("net.onnx")).write_bytes(b"")
    with suppress(ExportError):  # net.onnx's
        check_owner(path.with_name("net.nir"))
    names = set_names(path.with_name("net.nir"), TARGETS["nir"], card=False)
    assert "net.onnx" not in names
    return names


def _card(path: Path) -> object:
    """A model card beside an export that replaces its set: whether this program wrote it."""
    from tcja_deploy.exporters.companions import _is_card

    found = _is_card(path)
    assert not found or b"library_name:" in path.read_bytes()
    return found


OWN = {
    target.name: target
    for target in (
        Target("kept frames", ("frames.npy",), (w.npy_header, m.odd_npy, m.flip), _kept_frames),
        Target("labelled", ("labelled.npz",), (m.zip_members, w.in_members(w.npy_header), m.flip), _labelled),
        Target("tune", ("tiny.pth", "tiny.tcja"), (m.torch_content, m.safetensors_header), _tuned),
        Target("meter", ("meter.txt",), (m.flip, m.cells), _meter),
        Target("beside", ("lava.json", "beside.json"), (m.flip, m.json_text), _beside),
        Target("card", ("card.md",), (m.flip, m.cells), _card),
        Target("remembered", ("words.txt",), (m.flip, m.cells), _remembered),
    )
}
"""By name."""
