"""Reads TOML tables and collects everything that is wrong with them, each with its dotted key."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

__all__ = ["Problems", "TomlTable", "suggestion"]

_Choice = TypeVar("_Choice", bound=StrEnum)
_LARGEST = 1e18
"""Largest number that a profile may hold: far above any chip's, far below an overflow when units are converted."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` if `word` is close to a known one, else an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


class Problems:
    """A growing list of violations."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def add(self, path: str, message: str) -> None:
        """Append `path: message` once, with unprintable characters, which a key may contain, escaped."""
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in f"{path}: {message}")
        if line not in self.messages:
            self.messages.append(line)


class TomlTable:
    """One TOML table. Every read marks its key as known; `close` reports the keys that were never read.

    Args:
        data: The parsed table; anything else is reported, treated as empty, and `is_table` is then False.
        path: Dotted key of the table; empty for the whole file.
        problems: The list to which violations are added.
    """

    def __init__(self, data: object, path: str, problems: Problems) -> None:
        self.path = path
        self.problems = problems
        self._known: set[str] = set()
        self.is_table = isinstance(data, Mapping)
        if isinstance(data, Mapping):
            self._data: Mapping[str, Any] = data
        else:
            self._data = {}
            problems.add(path or "file", f"must be a table, not {_kind(data)}")

    def __contains__(self, key: str) -> bool:
        return key in self._data

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys, in the order of the file."""
        return tuple(self._data)

    def at(self, key: str) -> str:
        """Dotted path of a key."""
        return f"{self.path}.{key}" if self.path else key

    def complain(self, key: str, message: str) -> None:
        """Report a violation about one key."""
        self.problems.add(self.at(key), message)

    def _take(self, key: str, *, required: bool) -> Any:
        self._known.add(key)
        if key not in self._data and required:
            self.complain(key, "missing")
        return self._data.get(key)

    def text(self, key: str, *, required: bool = True, pattern: str = "") -> str:
        """A string that is printable, not blank, and matches `pattern` as a whole; empty if it is absent or wrong."""
        value = self._take(key, required=required)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.complain(key, f"must be a string, not {_kind(value)}")
            return ""
        if not value.strip() or not value.isprintable():
            self.complain(key, "must be a line of printable text")
            return ""
        if pattern and not re.fullmatch(pattern, value):
            self.complain(key, f"'{value}' does not match {pattern}")
            return ""
        return value

    def choice(self, key: str, kind: type[_Choice], *, required: bool = True) -> _Choice | None:
        """A member of a closed set of words; None if it is absent or wrong."""
        word = self.text(key, required=required)
        if not word:
            return None
        words = [member.value for member in kind]
        if word not in words:
            self.complain(key, f"'{word}' is not one of {', '.join(words)}{suggestion(word, words)}")
            return None
        return kind(word)

    def choices(self, key: str, kind: type[_Choice]) -> tuple[_Choice, ...]:
        """An array of different members of a closed set of words; empty if it is absent."""
        entries = TomlTable(
            {str(i): item for i, item in enumerate(self._array(key))}, self.at(key), self.problems
        )
        read = [entries.choice(index, kind) for index in entries.keys]
        found = [member for member in read if member is not None]
        if len(set(found)) < len(found):
            self.complain(key, "names something twice")
        return tuple(dict.fromkeys(found))

    def texts(self, key: str) -> tuple[str, ...]:
        """An array of strings; empty if it is absent."""
        entries = TomlTable(
            {str(i): item for i, item in enumerate(self._array(key))}, self.at(key), self.problems
        )
        return tuple(filter(None, (entries.text(index) for index in entries.keys)))

    def wholes(self, key: str) -> tuple[int, ...]:
        """An array of positive integers; empty if it is absent."""
        entries = TomlTable(
            {str(i): item for i, item in enumerate(self._array(key))}, self.at(key), self.problems
        )
        read = [entries.number(index, whole=True) for index in entries.keys]
        return tuple(int(number) for number in read if number is not None)

    def _array(self, key: str) -> list[Any]:
        value = self._take(key, required=False)
        if value is None:
            return []
        if not isinstance(value, list) or not value:
            self.complain(key, "must be an array that is not empty")
            return []
        return value

    def number(
        self, key: str, *, whole: bool = False, zero: bool = False, required: bool = False
    ) -> float | None:
        """A finite positive number (with `zero`, also zero; with `whole`, an integer); None if it is absent or wrong."""
        value = self._take(key, required=required)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            self.complain(key, f"must be a {'whole ' if whole else ''}number, not {_kind(value)}")
        elif isinstance(value, float) and not math.isfinite(value):
            self.complain(key, f"{value} is not a finite number")
        elif value < 0:
            self.complain(key, f"{value} is negative")
        elif value == 0 and not zero:
            self.complain(
                key, 'zero would hide a missing number; an unpublished one has evidence = "unknown"'
            )
        elif value > _LARGEST:
            self.complain(key, f"is above {_LARGEST:g}")
        else:
            return int(value) if whole else float(value)
        return None

    def table(self, key: str, *, required: bool = False) -> TomlTable:
        """A table below this one; empty if it is absent."""
        value = self._take(key, required=required)
        return TomlTable({} if value is None else value, self.at(key), self.problems)

    def forbid(self, key: str, message: str) -> None:
        """Report a key that is known but not allowed here."""
        self._known.add(key)
        self.complain(key, message)

    def close(self) -> None:
        """Report every key that was never read."""
        for key in self._data:
            if key not in self._known:
                self.complain(key, f"unknown key{suggestion(key, self._known)}")


def _kind(value: object) -> str:
    """Name of a TOML type, for messages."""
    names = {bool: "a boolean", int: "a whole number", float: "a number", str: "a string", list: "an array"}
    return "a table" if isinstance(value, Mapping) else names.get(type(value), "a date or time")
