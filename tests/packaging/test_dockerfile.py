"""What the Dockerfile names exists: files, extras, commands with their options, versions of Python. A builder is not needed."""

from __future__ import annotations

import re
import shlex
import tomllib
from typing import Any

import pytest
import typer
from page_blocks import ROOT, blocks_of

from tcja_deploy import cli

INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8")).splitlines()
    if line and not line.startswith("#")
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def commands() -> list[list[str]]:
    """Words of every command that a layer runs."""
    lines = [text for kind, text in INSTRUCTIONS if kind == "RUN"]
    return [shlex.split(part) for line in lines for part in line.split("&&")]


def is_known(words: list[str]) -> None:
    """A call of tcja-deploy names a command and options that there are."""
    found: Any = typer.main.get_command(cli.app)
    rest = list(words)
    while hasattr(found, "commands"):
        found = found.commands[rest.pop(0)]
    options = {name for parameter in found.params for name in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= options


def test_instructions_are_those_of_docker() -> None:
    assert INSTRUCTIONS[0][0] == "FROM"
    assert {kind for kind, _ in INSTRUCTIONS} == {
        "FROM",
        "RUN",
        "ENV",
        "COPY",
        "WORKDIR",
        "ENTRYPOINT",
        "CMD",
    }


def test_commands_and_extras_exist() -> None:
    ours = [words[1:] for words in commands() if words[0] == "tcja-deploy"]
    assert ours
    for words in ours:
        is_known(words)
    extras = [found[1] for words in commands() for word in words if (found := re.search(r"\[(\w+)\]$", word))]
    assert extras
    assert set(extras) <= set(PROJECT["optional-dependencies"])


def test_pythons_are_those_that_are_needed() -> None:
    base = dict(INSTRUCTIONS)["FROM"]
    assert base.startswith("python:3.10-")  # lava-dl's
    (venv,) = (words for words in commands() if "venv" in words)
    assert re.search(r"python(3\.\d+)$", venv[0])[1] == PROJECT["requires-python"].removeprefix(">=")  # type: ignore[index]


@pytest.mark.parametrize("page", ["docs/how-to/docker.md"])
def test_the_page_runs_the_image_with_commands_that_exist(page: str) -> None:
    (block,) = blocks_of(page)
    lines = [shlex.split(line) for line in block.text.splitlines()]
    assert lines[0] == ["docker", "build", "-t", "tcja-deploy", "."]
    for words in lines[1:]:
        is_known(words[words.index("tcja-deploy") + 1 :])
