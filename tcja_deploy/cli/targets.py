"""Options of the command line that come from the table of targets."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_type_hints

import typer

from tcja_deploy.cli.options import RecordingOptions, open_dataset
from tcja_deploy.errors import UsageError
from tcja_deploy.exporters.targets import TARGETS

if TYPE_CHECKING:
    from tcja_deploy.ir import Graph

__all__ = ["NOTHING", "Given", "check_given", "read_given", "target_options"]

Given = dict[str, Any]
"""Options of targets that were given, by name."""

NOTHING: Given = {}
"""None of them."""

OptionType = Callable[[str], type]
"""The options dataclass of a target, by the target's name."""

_TYPES: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str, "Path": Path}


def _offered(kind: type) -> list[Field[Any]]:
    """The fields that the command line offers."""
    return [f for f in fields(kind) if f.metadata]


def _takers(name: str, kind: OptionType) -> list[str]:
    return [target for target in TARGETS if name in {f.name for f in _offered(kind(target))}]


def _parameter(field: Field[Any], title: str | None) -> inspect.Parameter:
    """A parameter for Typer; `None` if the option is not given."""
    declared = str(field.type).removesuffix(" | None")
    python = Path if field.metadata["reads"] else str if declared.startswith("Literal") else _TYPES[declared]
    flags = [f"--{field.name.replace('_', '-')}", *filter(None, [field.metadata["flag"]])]
    option = typer.Option(*flags, help=field.metadata["help"], rich_help_panel=title, show_default=False)
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[python | None, option]
    )


def target_options(
    kind: OptionType, panel: str, *, targets: Collection[str] = TARGETS, without: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of targets; it gets those that the user gave as its parameter `given`.

    Args:
        kind: The dataclass of a target.
        panel: Title in `--help` of options that not all targets take; `{}` becomes their names.
        targets: Names of the targets.
        without: Options that the command does not take.
    """
    found: dict[str, inspect.Parameter] = {}
    for target in targets:
        for field in _offered(kind(target)):
            takers = _takers(field.name, kind)
            title = panel.format(", ".join(takers)) if len(takers) < len(TARGETS) else None
            if field.name not in without:
                found.setdefault(field.name, _parameter(field, title))

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        own = [
            p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY)
            for p in inspect.signature(command).parameters.values()
            if p.name != "given"
        ]

        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            taken = {name: arguments.pop(name) for name in found}
            command(**arguments, given={name: value for name, value in taken.items() if value is not None})

        described = cast(Any, run)
        described.__signature__ = inspect.Signature([*own, *found.values()])
        described.__annotations__ = {p.name: p.annotation for p in (*own, *found.values())}
        return run

    return decorate


def check_given(target: str, given: Given, kind: OptionType, what: str) -> None:
    """Refuse options of other targets.

    Raises:
        UsageError: If there is one.
    """
    for name in given:
        takers = _takers(name, kind)
        if target not in takers:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag} does not apply to {what}", hint=f"it applies to {', '.join(takers)}")


def read_given(
    target: str, given: Mapping[str, Any], kind: OptionType, graph: Graph | None, which: RecordingOptions
) -> Given:
    """The options, with the contents of files in place of their paths.

    Args:
        target: Name of the target.
        given: Its options.
        kind: The dataclass of a target.
        graph: The network that the files are about.
        which: How to read recordings.
    """
    reads = {f.name: f.metadata["reads"] for f in _offered(kind(target))}
    return {
        name: _READERS[reads[name]](graph, value, which) if reads[name] and graph is not None else value
        for name, value in given.items()
    }


def _profile(graph: Graph, path: Path, which: RecordingOptions) -> Any:
    from tcja_deploy.runtime.stream.saved import load_profile

    return load_profile(graph, path)


def _labelled(graph: Graph, path: Path, which: RecordingOptions) -> Any:
    return open_dataset(graph, path, which._replace(limit=None))


_READERS: dict[str, Callable[[Graph, Path, RecordingOptions], Any]] = {
    "profile": _profile,
    "labelled recordings": _labelled,
}
