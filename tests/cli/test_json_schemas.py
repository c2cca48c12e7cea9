"""What the commands write as JSON is what the published schemas say."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Run

from tcja_deploy.errors import UsageError
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
