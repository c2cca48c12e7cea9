"""What the commands write as JSON is what the published schemas say."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from command_line import Run
from safetensors import safe_open

from tcja_deploy.api import load
from tcja_deploy.cli import app
from tcja_deploy.errors import UsageError
from tcja_deploy.ir_file import save_graph
from tcja_deploy.library.schemas import DOCUMENTS, schema_text, written

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
ROOT = Path(__file__).resolve().parents[2]
MODEL = str(ROOT / "tcja_deploy" / "data" / "nmnist_checkpoint_max.pth")
DATA = ("--data", str(ROOT / "tests" / "data" / "n-mnist" / "Test"), "--limit", "2")


def check(name: str, text: str) -> Any:
    found = json.loads(text)
    jsonschema.validate(found, json.loads(schema_text(name)), cls=jsonschema.Draft202012Validator)
    return found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_ships_is_what_the_records_say(name: str) -> None:
    assert schema_text(name) == written(name), "python docs/generate_schemas.py"
    jsonschema.Draft202012Validator.check_schema(json.loads(schema_text(name)))


def test_the_page_lists_them() -> None:
    spec = importlib.util.spec_from_file_location("generate_schemas", ROOT / "docs" / "generate_schemas.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.schemas_page(), "python docs/generate_schemas.py"
    with pytest.raises(UsageError, match="no document"):
        schema_text("../__init__")


COMMANDS = {
    "energy-report": ("energy", MODEL, *DATA, "--json", "-p", "asic45", "-p", "loihi1"),
    "reproduction": ("energy", "--reproduce", "--json"),
    "firing-rates": ("rates", MODEL, *DATA, "--json"),
    "comparison": ("compare", MODEL, MODEL, *DATA, "--json"),
    "benchmark": ("benchmark", MODEL, *DATA, "--json", "--turns", "1", "-t", "nir"),
    "inspection": ("inspect", MODEL, "--json"),
    "stream": ("stream", MODEL, *DATA, "--json"),
    "profiles": ("profiles", "list", "--json"),
    "lava-doctor": ("lava", "doctor", "--json"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command(run: Run, name: str) -> None:
    check(name, run(*COMMANDS[name]).out)


SCHEMAS = {
    "benchmark": {"benchmark"},
    "compare": {"comparison"},
    "energy": {"energy-report", "reproduction"},
    "export": {"export"},
    "inspect": {"inspection", "lava-bundle"},
    "lava doctor": {"lava-doctor"},
    "lava tune": {"tuning"},
    "profiles list": {"profiles"},
    "profiles show": {"profile"},
    "rates": {"firing-rates"},
    "stream": {"stream", "stream-sweep"},
    "verify": {"verification"},
}
"""What each command prints as JSON; every one of these is checked in this file."""


def commands_with_json(found: Any, path: str = "") -> Iterator[str]:
    for name, command in getattr(found, "commands", {}).items():
        yield from commands_with_json(command, f"{path} {name}".strip())
    if any("--json" in parameter.opts for parameter in found.params):
        yield path


def test_every_command_with_json_has_a_schema() -> None:
    assert set(commands_with_json(typer.main.get_command(app))) == set(SCHEMAS)
    assert set().union(*SCHEMAS.values()) <= set(DOCUMENTS)
    text = Path(__file__).read_text(encoding="utf-8")
    for name in set().union(*SCHEMAS.values()):
        assert f'check("{name}"' in text or name in COMMANDS, name


def test_a_fine_tune(run: Run, tmp_path: Path) -> None:
    ran = run("lava", "tune", MODEL, *DATA, "--epochs", "1", "-o", str(tmp_path / "t.pth"), "--json")
    assert ran.code == 0, ran.err
    assert check("tuning", ran.out)["path"] == str(tmp_path / "t.pth")


def test_the_header_of_a_saved_graph(tmp_path: Path) -> None:
    save_graph(load(MODEL), tmp_path / "m.tcja")
    with safe_open(tmp_path / "m.tcja", "numpy") as file:
        check("graph", file.metadata()["tcja_deploy.graph"])


@pytest.mark.parametrize("profile", ["asic45", "loihi1", "truenorth"])
def test_a_profile(run: Run, profile: str) -> None:
    check("profile", run("profiles", "show", profile, "--json").out)


@pytest.mark.slow
def test_a_sweep(run: Run) -> None:
    check("stream-sweep", run("stream", MODEL, *DATA, "--sweep", "--json").out)


def test_exports(run: Run, tmp_path: Path) -> None:
    for target, artifact in (("onnx", "a.onnx"), ("onnx-step", "b.step.onnx"), ("lava", "c.lava")):
        options = DATA if target == "onnx" else ()
        ran = run("export", MODEL, "-t", target, "-o", str(tmp_path / artifact), "--json", *options)
        assert ran.code == 0, ran.err
        check("export", ran.out)
    manifests = [*sorted(tmp_path.glob("*.manifest.json")), tmp_path / "c.lava" / "manifest.json"]
    assert len(manifests) == 3
    for manifest in manifests:
        found = check("manifest", manifest.read_text())
    check("lava-bundle", json.dumps(found["lava"]))
    check("lava-bundle", run("inspect", str(tmp_path / "c.lava"), "--json").out)
    check("agreement", json.dumps(json.loads(manifests[0].read_text())["parity"]))
    check("verification", run("verify", str(tmp_path / "a.onnx"), "--json").out)


def test_neurobench(run: Run, tmp_path: Path) -> None:
    assert run("rates", MODEL, *DATA, "--neurobench", str(tmp_path / "n.json")).code == 0
    check("neurobench", (tmp_path / "n.json").read_text())


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object" and schema.get("additionalProperties") is False:
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


def test_a_field_too_many_or_too_few_is_refused(run: Run) -> None:
    found = check("firing-rates", run(*COMMANDS["firing-rates"]).out)
    known = json.loads(schema_text("firing-rates"))
    assert len(list(objects(known))) > 5
    for wrong in (
        {**found, "more": 1},
        {k: v for k, v in found.items() if k != "steps"},
        {**found, "steps": "10"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, known, cls=jsonschema.Draft202012Validator)
