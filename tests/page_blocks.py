"""The blocks of code that pages show, and what comments in a page's source say about running them.

A comment stands right before its block:

- `<!-- not run: REASON -->`: nothing can run it here.
- `<!-- run by: tests/... -->`: that test runs it.
- `<!-- before: CODE -->`: a line of Python that makes what the block takes for granted.
- `<!-- needs: NAME, ... -->`: packages, or files of the larger sets, without which the block is left out.
- `<!-- file: NAME -->`: the block is that file, as is one with `title="NAME"` behind its language, which the site shows.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Block", "blocks_of", "pages"]

ROOT = Path(__file__).resolve().parents[1]

_COMMENT = re.compile(r"^ *<!-- (?P<word>not run|run by|before|needs|file): (?P<said>.+) -->$")
_TITLED = re.compile(r'(\w+) title="([^"]+)"')
_CONSOLE = re.compile(r"(tcja-deploy|python3?|pip|pytest|bash|docker|git|export) |\.ci/")
_PYTHON = re.compile(r"(from|import) |@dataclass|[A-Z_]+ = [A-Z]\w+\(")


@dataclass(frozen=True)
class Block:
    """A block of a page.

    Attributes:
        page: The page's path from the root of the repository.
        line: Its first line there.
        language: What its fence says; of an indented block what it looks like.
        text: What it holds.
        said: What comments right before it say, by their first words.
    """

    page: str
    line: int
    language: str
    text: str
    said: dict[str, str]

    @property
    def file(self) -> str | None:
        """The name of the file that it is."""
        return self.said.get("file")

    @property
    def place(self) -> str:
        """Where to look."""
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Every page that a stranger reads, from the root of the repository."""
    docs = ROOT / "docs"
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *docs.rglob("*.md"), *docs.glob("tutorials/*.py")]
    return sorted(page.relative_to(ROOT).as_posix() for page in found)


def blocks_of(page: str) -> list[Block]:
    """All blocks of a page, in order; of a notebook, those in its prose."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    if page.endswith(".py"):
        lines = [line[1:].removeprefix(" ") if line.startswith("#") else "" for line in lines]
    found: list[Block] = []
    said: dict[str, str] = {}
    i, margin = 0, 4
    while i < len(lines):
        start, line = i, lines[i]
        i += 1
        if comment := _COMMENT.match(line):
            said[comment["word"]] = comment["said"]
            continue
        if not line.strip():
            continue
        if line.startswith("```"):
            while not lines[i].startswith("```"):
                i += 1
            language, text = line[3:], "\n".join(lines[start + 1 : i]) + "\n"
            i += 1
            if titled := _TITLED.fullmatch(language):
                language, said["file"] = titled.groups()
        elif line.startswith(margin * " ") and not lines[start - 1].strip():
            while i < len(lines) and (lines[i].startswith(margin * " ") or not lines[i].strip()):
                i += 1
            text = textwrap.dedent("\n".join(lines[start:i])).rstrip() + "\n"
            language = (
                "console"
                if _CONSOLE.match(text)
                else "toml"
                if text.startswith("schema_version")
                else "python"
                if _PYTHON.match(text)
                else "indented"
            )
        else:
            if not line.startswith(" "):
                margin = 8 if re.match(r"(\d+\.|-) ", line) else 4  # items of a list are indented themselves
            said = {}
            continue
        found.append(Block(page, start + 1, language, text, said))
        said = {}
    return found
