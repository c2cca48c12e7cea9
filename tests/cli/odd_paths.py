"""Paths that no reader and no writer expects, and every parameter of the command line that may be given one."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer

from tcja_deploy import cli

ODD = ("long", "bytes", "loop", "below a file", "unsearchable", "fifo", "device", "socket", "control", "zero")
"""Kinds of paths; see `odd_path`."""


def odd_path(kind: str, folder: Path) -> str:
    """A path of a kind, made in a folder whose own path is short."""
    path = folder / "odd"
    if kind == "long":
        return str(folder / ("a" * 300))
    if kind == "below a file":
        path.touch()
        return str(path / "x.pth")
    if kind == "zero":
        return str(folder / "a\0b")
    if kind == "loop":
        path.symlink_to(path.name)
    elif kind == "unsearchable":
        path.mkdir()
        (path / "x.pth").touch()
        path.chmod(0)
        return str(path / "x.pth")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        return "/dev/zero"
    elif kind == "socket":
        os.chdir(folder)  # the path of a socket is short
        server = socket.socket(socket.AF_UNIX)
        server.bind("odd")
        server.close()
    else:
        path = folder / {"bytes": "b\udcff.pth", "control": "\x1b[2J\x1b]0;x\x07.pth"}[kind]
        path.write_bytes(b"nothing known")
    return str(path)


def parameters() -> list[tuple[tuple[str, ...], str]]:
    """Every command, by its words, with every parameter of it that is a path or a text."""
    return [
        (words, name)
        for words, callback in _callbacks(cli.app, ())
        for name, hint in get_type_hints(callback).items()
        if name != "return" and _kinds(hint) & {Path, str}
    ]


def is_path(words: tuple[str, ...], name: str) -> bool:
    """Whether a parameter is declared as a path."""
    return Path in _kinds(get_type_hints(dict(_callbacks(cli.app, ()))[words])[name])


def _kinds(hint: Any) -> set[Any]:
    """The classes that a type is made of."""
    inner = get_args(hint)
    return {hint} if not inner else {kind for one in inner for kind in _kinds(one)}


def _callbacks(
    app: typer.Typer, words: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Callable[..., Any]]]:
    for one in app.registered_commands:
        assert one.callback is not None
        yield (*words, one.name or one.callback.__name__.strip("_").replace("_", "-")), one.callback
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from _callbacks(group.typer_instance, (*words, str(group.typer_instance.info.name)))


def arguments(words: tuple[str, ...], name: str, value: str, known: dict[str, str]) -> list[str]:
    """A command line that gives one parameter a value, and what else is required what it usually gets."""
    command: Any = typer.main.get_command(cli.app)
    for word in words:
        command = command.commands[word]
    given, positional = list(words), []
    for parameter in command.params:
        if parameter.name != name and not parameter.required:
            continue
        one = value if parameter.name == name else known.get(parameter.name, known["model"])
        if parameter.param_type_name == "argument":
            positional.append(one)
        else:
            given += [max(parameter.opts, key=len), one]
    return [*given, *positional]


_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2


@contextmanager
def permissions_hold() -> Iterator[None]:
    """Inside, permissions of files hold for root as they do for anybody (Linux)."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    head, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(head, data)
    before = data[0]
    data[0] = before & ~(1 << _DAC_OVERRIDE | 1 << _DAC_READ_SEARCH)
    libc.capset(head, data)
    try:
        yield
    finally:
        data[0] = before
        libc.capset(head, data)
