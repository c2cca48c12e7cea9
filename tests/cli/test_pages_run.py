"""What the pages show runs, in the order of each page, and prints what the page says it prints."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
from command_line import Run
from golden_files import LARGER
from page_blocks import ROOT, Block, blocks_of, pages
from page_figures import REASONS as WHY_NOT_COMPARED
from page_figures import (
    Near,
    NotAtHandError,
    agree,
    evaluate,
    figures,
    statements_of,
    unmarked_prose,
    unmarked_tables,
)

from tcja_deploy import cli
from tcja_deploy.data import path as shipped
from tcja_deploy.errors import ToolchainError

DATA = ROOT / "tests" / "data"
SHOWN = {page: blocks for page in pages() if (blocks := blocks_of(page))}
STATED = {page: stated for page in pages() if (stated := statements_of(page))}
REASONS = (
    "installs packages",
    "of other data than the repository holds",
    "minutes",
    "needs Docker",
    "a part of a class or a file",
    "rewrites files of the repository",
)
"""Why a block may not be run at all."""

NAMES = {"nmnist_checkpoint_max.pth": ("checkpoint_max.pth", "model.pth", "a.pth", "MODEL", "trained.pth",
                                       "nmnist_checkpoint_max.pth", "tcja_deploy/data/nmnist_checkpoint_max.pth"),
         "digits_checkpoint_max.pth": ("b.pth",)}  # fmt: skip
"""What pages call the shipped networks."""
FOLDERS = {
    "recordings": "Test",
    "test": "Test",
    "train": "Train",
    "TEST": "Test",
    "TRAIN": "Train",
    "RECORDINGS": "Test",
}
"""What they call recordings: two of each are enough."""

LANGUAGES = {"console", "python", "text", "indented", "toml"}


def the_names_of_the_pages(folder: Path) -> None:
    """What the pages talk of, in a folder."""
    for file, names in NAMES.items():
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(shipped(file), folder / name)
    for name, part in FOLDERS.items():
        for label in ("3", "7"):
            shutil.copytree(DATA / "n-mnist" / part / label, folder / name / label)
    shutil.copytree(DATA / "n-mnist", folder / "n-mnist")


def commands(block: Block) -> list[list[str]]:
    """Words of each command of a block, without comments; what stands behind an empty line is what the first one prints."""
    shown = block.text.replace("\\\n", " ").partition("\n\n")[0].splitlines()
    return [words for line in shown if (words := shlex.split(line, comments=True))]


def is_synopsis(words: list[str]) -> bool:
    return any("[" in word for word in words)


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that a line calls, and its arguments."""
    found: Any = typer.main.get_command(cli.app)
    rest = words[1:]
    while hasattr(found, "commands"):
        found, rest = found.commands[rest[0]], rest[1:]
    return found, rest


def synopsis_is_true(words: list[str]) -> None:
    """Each option of a line like `export MODEL [--gate refuse|mean]` is one of that command."""
    command, rest = command_of(words)
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    named = {word.strip("[]") for word in rest if word.strip("[]").startswith("-")}
    assert named
    assert named <= options


def run_console(block: Block, run: Run) -> str:
    """Run each line; what the commands print."""
    printed = ""
    for words in commands(block):
        if words[0] == "pytest":  # this suite runs them
            assert all((ROOT / word.partition("::")[0]).exists() for word in words[1:] if "/" in word)
            continue
        if words[0] == "python":
            script = [sys.executable, str(ROOT / words[1]), *words[2:]]
            printed += subprocess.run(script, capture_output=True, text=True, check=True).stdout
            continue
        assert words[0] == "tcja-deploy", f"{block.place}: how is {words[0]} run?"
        if words[1:] == ["lava", "setup"]:  # minutes and gigabytes; .ci/run does it
            assert command_of(words)[0].name == "setup"
            continue
        if is_synopsis(words):
            synopsis_is_true(words)
            continue
        ran = run(*words[1:])
        in_lava = words[1] == "verify" and words[2].endswith(".lava") and "--backend" not in words
        # Without the real Lava a bundle is refused as the page of exit codes says; tests/exporters/lava runs it there.
        assert ran.code == (ToolchainError.exit_code if in_lava else 0), (
            f"{block.place}: {' '.join(words)}\n{ran.err}"
        )
        printed += ran.err + ran.out
    return printed


def larger(path: str) -> Path:
    """A folder or file of the larger sets."""
    if not (LARGER / path).exists():
        raise NotAtHandError
    return LARGER / path


def json_of(run: Run) -> Callable[[str], Any]:
    """What commands say with `--json`, for the code that figures of a page are compared by."""

    def found(line: str) -> Any:
        ran = run(*shlex.split(line), "--json")
        assert ran.code == 0, f"{line}\n{ran.err}"
        return json.loads(ran.out)

    return found


def run_python(block: Block, names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    """Run it with what the blocks before have defined; what it prints."""
    exec(compile("\n" * block.line + block.text, str(ROOT / block.page), "exec"), names)
    return capsys.readouterr().out


def states(printed: str, stated: str) -> bool:
    """Whether each line that a page states was printed, in its order, up to spaces and rules."""

    def lines(text: str) -> list[list[str]]:
        return [words for line in text.splitlines() if (words := line.strip(" ─━").split())]

    left = iter(lines(printed))
    return all(line in left for line in lines(stated))


def at_hand(block: Block, folder: Path) -> bool:
    """Whether what it needs is here; files are copied into the folder."""
    for needed in filter(None, block.said.get("needs", "").split(", ")):
        if (LARGER / needed).is_file():
            shutil.copy(LARGER / needed, folder)
        elif "/" in needed or find_spec(needed) is None:
            return False
    return True


RUN = [page for page in pages() if page in SHOWN.keys() | STATED.keys() and "zh" not in page]
"""A page in Chinese has the blocks of its English one."""
LONG = ("README.md", "docs/benchmark.md", "docs/energy.md")


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow) if page in LONG else page for page in RUN]
)
def test_what_a_page_shows_runs(
    page: str, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TCJA_DEPLOY_LAVA_PYTHON", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    the_names_of_the_pages(tmp_path)
    blocks = [
        b for b in SHOWN.get(page, ()) if not {"not run", "run by"} & set(b.said) and at_hand(b, tmp_path)
    ]
    stated = [s for s in STATED.get(page, ()) if s.word == "figures"]
    for block in blocks:
        if block.file:
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
    names: dict[str, Any] = {"the_root": ROOT, "near": Near, "larger": larger, "json_of": json_of(run)}
    printed = None
    for block in sorted([*blocks, *stated], key=lambda part: part.line):
        if not isinstance(block, Block):
            evaluate(block, names)
            continue
        exec(block.said.get("before", ""), names)
        if block.language == "console":
            printed = run_console(block, run)
            if stated := block.text.partition("\n\n")[2]:
                assert states(printed, stated), f"{block.place}: printed\n{printed}"
        elif block.language == "python" and not block.file:
            printed = run_python(block, names, capsys)
        elif block.language == "text" and printed:
            assert states(printed, block.text), f"{block.place}: printed\n{printed}"
            printed = None


GENERATED = (
    "docs/energy-models.md",
    "docs/reference/cli.md",
    "docs/reference/conventions.md",
    "docs/spikingjelly-models.md",
)
"""Pages that tests compare whole with what writes them."""


def test_figures_say_where_they_come_from() -> None:
    """Measured figures in tables and prose are compared here, by the test that they name, or say why not."""
    written = [page for page in pages() if page.endswith(".md") and page not in GENERATED]
    unmarked = [place for page in written for place in (*unmarked_tables(page), *unmarked_prose(page))]
    assert unmarked == [], "say where the figures come from, see tests/page_figures.py"
    for stated in (s for page in STATED.values() for s in page):
        if stated.word == "figures by":
            test = (ROOT / stated.said.partition("::")[0]).read_text(encoding="utf-8")
            assert Path(stated.page).name in test, stated.place
            assert f"def {stated.said.partition('::')[2]}(" in test, stated.place
        elif stated.word == "figures of":
            assert stated.said.startswith(WHY_NOT_COMPARED), stated.place


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 of 59,812,000 in `T = 10` steps, 1.2e-4 or -3.5 %", ["0", "59,812,000", "1.2e-4", "-3.5"]),
        (
            "| a | b |\n|---|---|\n| 3 | 5,760 (184,320) |\n| x2 | 98 -> 97 |",
            ["5,760", "184,320", "98", "97"],
        ),
        ("Loihi2, int8, [page](a-1.md)", []),
    ],
)
def test_figures_of_a_text(text: str, expected: list[str]) -> None:
    assert figures(text) == expected


@pytest.mark.parametrize(
    ("stated", "value", "expected"),
    [("3.25", 3.2479, True), ("3.25", 3.2551, False), ("1,280", 1280, True), ("1,280", 1281, False), ("1.2e-4", 1.249e-4, True),
     ("1.2e-4", 1.26e-4, False), ("243", 242.6, True), ("962,732", Near(962746), True), ("962,732", Near(972746), False)],
)  # fmt: skip
def test_figures_agree_to_their_digits(stated: str, value: Any, expected: bool) -> None:
    assert agree(stated, value) is expected


def test_what_is_not_run_says_why() -> None:
    for block in (b for blocks in SHOWN.values() for b in blocks):
        assert block.language in LANGUAGES, f"{block.place}: what is {block.language!r}?"
        if "not run" in block.said:
            assert block.said["not run"].startswith(REASONS), block.place
        if "run by" in block.said:
            test = ROOT / block.said["run by"].partition("::")[0]
            assert Path(block.page).name in test.read_text(encoding="utf-8"), block.place


def test_little_is_not_run() -> None:
    shown = [b for blocks in SHOWN.values() for b in blocks if b.language.startswith(("console", "python"))]
    left_out = [b.place for b in shown if "not run" in b.said]
    assert len(shown) >= 40
    assert len(left_out) <= 18, left_out


@pytest.mark.parametrize(
    ("chinese", "english"),
    [
        ("docs/zh/index.md", "docs/index.md"),
        ("docs/tutorials/checkpoint_to_onnx_zh.py", "docs/tutorials/checkpoint_to_onnx.py"),
    ],
)
def test_chinese_pages_show_the_same(chinese: str, english: str) -> None:
    assert [b.text for b in SHOWN[chinese]] == [b.text for b in SHOWN[english]]

    def shape(page: str) -> list[str]:
        """Headings by their level, and the cells of a notebook."""
        lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
        pattern = r"# %%( \[markdown\])?|# #{1,3} " if page.endswith(".py") else r"#{1,3} "
        return [found[0] for line in lines if (found := re.match(pattern, line))]

    assert shape(chinese) == shape(english)
