"""What a type checker knows of the Python interface: every target's own options, and nothing else."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, get_overloads, get_type_hints

import pytest

from tcja_deploy.api import load
from tcja_deploy.events import open_data
from tcja_deploy.exporters.targets import TARGETS
from tcja_deploy.library import arguments, export_arguments, exporting, firing_rates
from tcja_deploy.library.export_arguments import Exporting, Verifying

ROOT = Path(__file__).resolve().parents[2]


def overloads() -> dict[str, set[str]]:
    """Names of the options that `export` takes for each target, from its overloads."""
    found = {}
    for one in get_overloads(exporting.export):
        target, options = one.__annotations__["target"], one.__annotations__["options"]
        kind = getattr(export_arguments, options.removeprefix("Unpack[").removesuffix("]"))
        name = (
            target.removeprefix("Literal['").removesuffix("']").removeprefix('Literal["').removesuffix('"]')
        )
        found[name] = kind
    return found


def test_each_target_has_an_overload_with_its_own_options() -> None:
    found = overloads()
    assert set(found) == {*TARGETS, "str"}
    assert found.pop("str") is Exporting
    for name, kind in found.items():
        options = {f.name: f for f in fields(TARGETS[name].options)}
        own = {n: t for n, t in kind.__annotations__.items() if n not in Exporting.__annotations__}
        assert set(own) == set(options), name
        known = get_type_hints(TARGETS[name].options, localns=_names())
        for option, typed in get_type_hints(kind, localns=_names()).items():
            if option in options and options[option].metadata.get("reads") != "labelled recordings":
                assert typed == known[option], (name, option)


def test_each_target_has_an_overload_of_verify_with_its_own_options() -> None:
    kinds = [one.__annotations__ for one in get_overloads(exporting.verify)]
    assert len(kinds) == len(TARGETS)
    found = {
        tuple(sorted(name for name in typed if name not in {*Verifying.__annotations__, "loading"})): (
            typed,
            told["model"],
        )
        for told in kinds
        for typed in [
            _typed(getattr(export_arguments, told["options"].removeprefix("Unpack[").removesuffix("]")))
        ]
    }
    for target in TARGETS.values():
        wanted = _typed(target.verification)
        names = tuple(sorted(f.name for f in fields(target.verification)))
        typed, model = found.pop(names)
        assert {name: typed[name] for name in names} == {name: wanted[name] for name in names}
        holds_its_own = target.own_input is not None
        assert model == ("None" if holds_its_own else "Model"), target.name
        assert ("loading" in typed) is not holds_its_own, target.name
    assert not found


def test_common_arguments_are_those_of_the_function() -> None:
    common = set(Exporting.__annotations__) - set(arguments.RecordingArguments.__annotations__)
    given = inspect.signature(exporting.export).parameters
    assert common == {n for n, p in given.items() if p.kind is p.KEYWORD_ONLY}
    of_all = set(Verifying.__annotations__) - set(arguments.RecordingArguments.__annotations__)
    given = inspect.signature(exporting.verify).parameters
    assert of_all | {"loading"} == {n for n, p in given.items() if p.kind is p.KEYWORD_ONLY}
    assert set(arguments.LoadArguments.__annotations__) == set(inspect.signature(load).parameters) - {
        "source", "progress",
    }  # fmt: skip
    running = set(arguments.RunArguments.__annotations__) - set(arguments.RecordingArguments.__annotations__)
    assert running == set(inspect.signature(firing_rates.rates).parameters) - {
        "model", "data", "loading", "recordings",
    }  # fmt: skip


def test_recordings_are_read_as_the_readers_say() -> None:
    told = inspect.signature(open_data).parameters
    of_the_model = {"path", "timesteps", "sensor", "channels", "outputs"}
    known = arguments.RecordingArguments.__annotations__
    assert set(known) == set(told) - of_the_model
    for name, kind in known.items():
        assert kind.__forward_arg__ == told[name].annotation, name


def test_no_option_of_a_target_is_one_of_recordings() -> None:
    for target in TARGETS.values():
        for kind in (target.options, target.verification):
            assert not {f.name for f in fields(kind)} & set(Exporting.__annotations__) - {"bound"}


CALLS = """
from pathlib import Path
import numpy as np
import tcja_deploy as td
from tcja_deploy.library.exported import Export, LavaExport, Verification
from tcja_deploy.library.firing_rates import RateReport

frames = np.zeros((10, 2, 2, 34, 34), np.float32)
graph = td.load("a.pth", timesteps=4, progress=False)
one: Export = td.export(graph, "onnx", "a.onnx", data=frames, opset=18, batch_first=True, card=True)
two: Export = td.export("a.pth", "onnx-step", "a.step.onnx", data="recordings/", limit=3, lookahead=2)
three: LavaExport = td.export(graph, "lava", Path("a.lava"), data=[frames], test="recordings/", gate_bits=7)
four: Export = td.export(graph, "nir", "a.nir", gate="split", data=(frames, np.zeros(2, np.int64)))
stages = three.stages
seen: Verification = td.verify("a.onnx", graph, "recordings/", bound=1e-4, limit=3)
step: Verification = td.verify("a.step.onnx", "a.pth", profile=None, loading={"timesteps": 3})
read: Verification = td.verify("a.nir", graph, frames, runner="norse", engine="torch")
bundle: Verification = td.verify("a.lava", data="recordings/", backend="twin", batch_size=2, progress=False)
mismatches: int = seen.mismatches
rates: RateReport = td.rates(graph, frames, engine="events", limit=3, loading={"timesteps": 3})
td.export(graph, "onnx", "b.onnx", card=True, license="mit", activity=rates)
td.energy(graph, activity=rates).estimates
td.compare([graph, "a.pth"], frames, batch_size=2, split_by="time").plot()
td.stream(graph, frames, engine="twin").frame()
td.inspect("a.pth", timesteps=3).macs
td.tune(graph, frames, "b.tcja").losses
td.benchmark(graph, frames, targets=["onnx"]).rows
"""
WRONG = """
td.export(graph, "onnx", "a.onnx", gate="split")
td.export(graph, "onnx", "a.onnx", opset="17")
td.export(graph, "nir", "a.nir", gate="drop")
td.export(graph, "lava", "a.lava", lookahead=2)
td.export(graph, "onnx-step", "a.onnx", engine="torch")
td.export(graph, "onnx", "a.onnx", engine="tensorflow")
td.export(graph, "onnx", "a.onnx").stages
td.verify("a.onnx", graph, batches=[frames])
td.verify("a.lava", backend="loihi")
td.verify("a.lava", graph, backend="twin")
td.verify("a.lava", bound=1e-4)
td.verify("a.onnx", graph, runner="norse", profile=None)
td.rates(graph, frames, limits=3)
td.rates(graph, frames, split_by="events")
td.load("a.pth", timestep=3)
td.load("a.pth", timesteps="3")
td.energy(graph, frames, loading={"steps": 3})
td.compare(graph, 7)
td.stream(graph, frames, engine="tensorflow")
td.inspect("a.pth", limit=3)
"""
SETTINGS = """
[mypy]
strict = true
warn_unused_ignores = true
[mypy-tcja_deploy.*]
follow_imports = silent
[mypy-tcja_deploy.energy.count.*,tcja_deploy.frontend.*,tcja_deploy.runtime.integers.*,tcja_deploy.runtime.events.*]
follow_imports = skip
[mypy-torch.*,onnx.*,onnxruntime.*,pandas.*,matplotlib.*,rich.*,numba.*,h5py.*,nir.*,safetensors.*,scipy.*]
follow_imports = skip
ignore_missing_imports = true
"""


@pytest.mark.slow
def test_right_calls_are_accepted_and_wrong_ones_are_not(tmp_path: Path) -> None:
    """As mypy --strict sees a user's file; each line of `WRONG` has an error, and no other line."""
    pytest.importorskip("mypy", reason="mypy is not installed")
    package = tmp_path / "path" / "tcja_deploy"
    package.mkdir(parents=True)
    for folder in (
        ROOT / "tcja_deploy",
        ROOT,
    ):  # editable installs work through import hooks that mypy cannot see
        for entry in folder.iterdir():
            if folder != ROOT or entry.name in ("exporters", "energy", "hardware_profiles"):
                (package / entry.name).symlink_to(entry)
    (tmp_path / "calls.py").write_text(CALLS + "# wrong" + WRONG)
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--no-color-output", "calls.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "MYPYPATH": str(package.parent)},
    )  # fmt: skip
    found = {int(number) for number in re.findall(r"^calls\.py:(\d+): error", ran.stdout, re.MULTILINE)}
    first = 1 + CALLS.count("\n") + 1
    assert found == set(range(first, first + WRONG.strip().count("\n") + 1)), ran.stdout + ran.stderr


def _typed(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, localns=_names())


def _names() -> dict[str, Any]:
    """What the modules import for the type checker alone."""
    from tcja_deploy.library.firing_rates import RateReport
    from tcja_deploy.runtime.stream import FrameProfile

    return {"FrameProfile": FrameProfile, "RateReport": RateReport, "Data": object, "Labelled": object,
            "SplitBy": object, "LabelOrder": object, "Resize": object, "Kind": object}  # fmt: skip
