"""What a type checker knows of the Python interface: every target's own options, and nothing else."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any, get_overloads, get_type_hints

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


def test_a_verification_takes_what_the_targets_take() -> None:
    wanted: dict[str, Any] = {}
    for target in TARGETS.values():
        known = get_type_hints(target.verification, localns=_names())
        wanted |= {f.name: known[f.name] for f in fields(target.verification)}
    common = arguments.RecordingArguments.__annotations__
    found = get_type_hints(Verifying, localns=_names())
    assert {n: t for n, t in found.items() if n not in common} == wanted


def test_common_arguments_are_those_of_the_function() -> None:
    common = set(Exporting.__annotations__) - set(arguments.RecordingArguments.__annotations__)
    given = inspect.signature(exporting.export).parameters
    assert common == {n for n, p in given.items() if p.kind is p.KEYWORD_ONLY}
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


def _names() -> dict[str, Any]:
    """What the modules import for the type checker alone."""
    from tcja_deploy.library.firing_rates import RateReport
    from tcja_deploy.runtime.stream import FrameProfile

    return {"FrameProfile": FrameProfile, "RateReport": RateReport, "Data": object, "Labelled": object,
            "SplitBy": object, "LabelOrder": object, "Resize": object, "Kind": object}  # fmt: skip
