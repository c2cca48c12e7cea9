"""Damage by hand to what is exported today, behind seals and checksums: each kind once, besides what fuzzing draws."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import content
from running import ALL

from tcja_deploy.errors import DeployError

Parts = dict[str, Any]


def bundle_file(parts: Parts, kind: str) -> Any:
    return next(v for k, v in parts.items() if k.startswith(f"{kind}_"))


def gate(key: str, value: Any) -> Callable[[Parts], None]:
    return lambda parts: bundle_file(parts, "gate").__setitem__(key, np.asarray(value))


def section(*path: str, value: Any) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        at = parts["manifest.json"]["lava"]
        for key in path[:-1]:
            at = at[int(key) if key.isdigit() else key]
        at[path[-1]] = value

    return change


def pooled(stride: list[int]) -> Callable[[Parts], None]:
    return lambda parts: bundle_file(parts, "gate").update(
        pool=np.array("max"), pool_kernel=np.array([1, 1]), pool_stride=np.array(stride)
    )


BUNDLES: dict[str, Callable[[Parts], None]] = {
    "fraction is infinite": gate("fraction", np.inf),
    "fraction is huge": gate("fraction", 10**11),
    "fraction that 64 bits do not hold": lambda parts: bundle_file(parts, "gate").update(
        fraction=np.asarray(62), index_bits=np.asarray(0)
    ),
    "fraction is negative": gate("fraction", -1),
    "table is real": gate("table", np.full(9, np.nan)),
    "table is empty": gate("table", np.zeros(0, np.int64)),
    "one is zero": gate("one", 0),
    "weights of another shape": gate("tla", np.ones((1, 2, 3), np.int64)),
    "weights too large": gate("cla", np.full((10, 10, 3), 2**62)),
    "stride 0": pooled([0, 0]),
    "stride beyond the frame": pooled([2**40, 2**40]),
    "fusion unknown": gate("fusion", "divide"),
    "frames a text": section("frames", value="10"),
    "frames huge": section("frames", value=2**62),
    "frames negative": section("frames", value=-1),
    "shape a text": section("input", "shape", value="2,34,34"),
    "shape huge": section("input", "shape", value=[2, 2**40, 2**40]),
    "scale 0": section("input", "scale", value=0),
    "limbs empty": section("input", "limbs", value=[]),
    "vote 0": section("readout", "vote", value=0),
    "vote null": section("readout", "vote", value=None),
    "parts an object": section("parts", value={}),
    "parts empty": section("parts", value=[]),
    "kind unknown": section("parts", "0", "kind", value="relais"),
    "file elsewhere": section("parts", "0", "file", value="../../etc/passwd"),
    "name a number": section("name", value=7),
    "a segment's weights of reals": lambda parts: bundle_file(parts, "segment")["layer"]["1"].update(
        weight=np.ones((1, 1, 1, 1))
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BUNDLES)
def test_bundles(what: str, tmp_path: Path) -> None:
    check("bundle, chain", "bundle.chain", BUNDLES[what], tmp_path)


@pytest.mark.parametrize("key", ["fraction", "table", "index_bits", "tla"])
def test_byte_order_is_the_file_s_own_matter(key: str, tmp_path: Path) -> None:
    parts = pickle.loads(content("bundle.chain"))
    arrays = bundle_file(parts, "gate")
    arrays[key] = arrays[key].astype(arrays[key].dtype.newbyteorder(">"))
    (tmp_path / "x").write_bytes(pickle.dumps(parts))
    ALL["bundle, chain"].read(tmp_path / "x")


def note(key: str, value: str) -> Callable[[Parts], None]:
    return lambda parts: parts["notes"].__setitem__(f"tcja_deploy.{key}", value)


def state(**change: Any) -> Callable[[Parts], None]:
    """Another first state in the notes; the model's own inputs stay."""

    def damage(parts: Parts) -> None:
        states = json.loads(parts["notes"]["tcja_deploy.states"])
        next(iter(states.values())).update(change)
        parts["notes"]["tcja_deploy.states"] = json.dumps(states)

    return damage


STEPS: dict[str, Callable[[Parts], None]] = {
    "no states": note("states", "{}"),
    "states a list": note("states", "[]"),
    "a state that the model lacks": note("states", '{"a": {"shape": [100000, 100000], "value": 0, "dtype": "float32"}}'),
    "a state of another type": state(dtype="complex128"),
    "a state of text": state(dtype="U9999"),
    "a state of another shape": state(shape=[1]),
    "a state that is a text": state(value="0"),
    "a state beyond its type": state(dtype="int8", value=1e300),
    "T a text": note("T", "ten"),
    "T huge": note("T", "9" * 5000),
    "T negative": note("T", "-1"),
    "T in another script": note("T", "\u0661\u0660"),
    "latency missing": lambda parts: parts["notes"].pop("tcja_deploy.latency"),
    "layers a list": note("layers", "[1]"),
    "layers too deep": note("layers", "[" * 100_000),
    "no outputs": lambda parts: parts.__setitem__("outputs", []),
    "one input more": lambda parts: parts["inputs"].__setitem__("x", [1, 2]),
}  # fmt: skip


@pytest.mark.parametrize("what", STEPS)
def test_step_models_that_contradict_themselves(what: str, tmp_path: Path) -> None:
    check("step, notes", "step.notes", STEPS[what], tmp_path)


def header(*path: str, value: Any) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        document = json.loads(str(parts["header"]))
        at = document
        for key in path[:-1]:
            at = at[int(key) if key.isdigit() else key]
        at[path[-1]] = value
        parts["header"] = np.array(json.dumps(document))

    return change


COUNTS: dict[str, Callable[[Parts], None]] = {
    "origin null": header("origin", value=None),
    "origin of numbers": header("origin", value={"model": 7}),
    "features infinite": header("values", "0", "features", value=[float("inf")]),
    "features negative": header("values", "0", "features", value=[-1]),
    "features huge": header("values", "0", "features", value=[2**62, 2**62]),
    "maps null": header("values", "0", "maps", value=None),
    "version true": header("version", value=True),
    "name a list": header("values", "0", "name", value=[]),
    "measures others": header("measures", value=["nonzero"]),
    "counts real": lambda parts: parts.__setitem__("table0", parts["table0"].astype(float)),
    "counts complex": lambda parts: parts.__setitem__("table0", parts["table0"].astype(complex)),
    "recordings twice": lambda parts: parts.__setitem__("samples", np.zeros_like(parts["samples"])),
    "recordings 0-dim": lambda parts: parts.__setitem__("samples", np.array(3)),
    "header a number": lambda parts: parts.__setitem__("header", np.array(7)),
    "header too deep": lambda parts: parts.__setitem__("header", np.array("[" * 200_000)),
}  # fmt: skip


@pytest.mark.parametrize("what", COUNTS)
def test_counts(what: str, tmp_path: Path) -> None:
    check("counts", "counts.arrays", COUNTS[what], tmp_path)


@pytest.mark.parametrize(
    "gates", [{"conv.5": [[1, "x"]]}, [1], {"nope": [1.0]}, {"conv.5": [1e300]}, {"conv.5": []}]
)
def test_noted_gates_of_a_split_export(gates: Any, tmp_path: Path) -> None:
    check(
        "split, parts",
        "split.parts",
        lambda parts: parts["manifest.json"]["nir"].__setitem__("gates", gates),
        tmp_path,
    )


def check(target: str, seed: str, damage: Callable[[Parts], Any], folder: Path) -> None:
    parts = pickle.loads(content(seed))
    damage(parts)
    (folder / "x").write_bytes(pickle.dumps(parts))
    with pytest.raises(DeployError) as caught:
        ALL[target].read(folder / "x")
    assert len(str(caught.value)) < 4000
