"""Options that several commands share, and what they load."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, cast, get_type_hints

import typer

from tcja_deploy.cli.loading import AS_FOUND, Loading
from tcja_deploy.cli.notes import note
from tcja_deploy.cli.remembered import remember_consent, source_entries
from tcja_deploy.cli.values import frame_shape, microseconds, sensor_size
from tcja_deploy.errors import SilenceWarning, UsageError

if TYPE_CHECKING:
    from tcja_deploy.events import EventData
    from tcja_deploy.events.classes import LabelOrder
    from tcja_deploy.events.integrate import SplitBy
    from tcja_deploy.events.resize import Resize
    from tcja_deploy.ir import Graph

__all__ = [
    "ALL",
    "AS_FOUND",
    "AS_USUAL",
    "ConventionsOption",
    "DataOption",
    "ForceOption",
    "JsonOption",
    "Loading",
    "ModelArgument",
    "PricesOption",
    "RecordingOptions",
    "RecordingsOption",
    "Running",
    "check_outputs",
    "given_dataset",
    "load_arguments",
    "load_model",
    "open_dataset",
    "open_frames",
    "refuse_recordings",
    "shared_options",
]

ModelArgument = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="Checkpoint, state dict, pickled module, .tcja or .nir file; or code that builds the network, models.py:NAME.",
        show_default=False,
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(help="Recordings: a folder of class folders, or one file.", show_default=False),
]
RecordingsOption = Annotated[
    list[Path],
    typer.Option(
        help="Recordings: a folder of class folders, or one file; may be repeated.", show_default=False
    ),
]
PricesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--profile",
        "-p",
        help="Prices: a built-in profile (asic45 if not given) or a .toml file; may be repeated.",
    ),
]
ConventionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--convention",
        "-c",
        help="paper, strict, memory or hardware (paper and strict if not given); may be repeated.",
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


class RecordingOptions(NamedTuple):
    """What the user said about how to read the recordings."""

    limit: Annotated[
        int | None, typer.Option(help="Use at most this many recordings, spread over the classes.")
    ] = None
    split_by: Annotated[
        str, typer.Option(help="Frames of equal numbers of events ('number') or equal time ('time').")
    ] = "number"
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Recordings run at once; 4 if not given, on a GPU as many as fit.", show_default=False
        ),
    ] = None
    split: Annotated[
        str | None, typer.Option(help="Part of a data set, if --data is its root: train, test or val.")
    ] = None
    classes: Annotated[
        str | None,
        typer.Option(
            help="Class names in the order of their labels: a text file, a training set's folder, or a known data set."
        ),
    ] = None
    labels: Annotated[
        Path | None, typer.Option(help="A table (CSV) of the recordings' file names and labels.")
    ] = None
    label_order: Annotated[
        str | None,
        typer.Option(help="How class names were sorted in training: 'text' (as SpikingJelly) or 'number'."),
    ] = None
    frame_time: Annotated[
        str | None,
        typer.Option(help="Frames of this fixed duration instead, as from a camera: 30ms, 5000us, 0.1s."),
    ] = None
    resize: Annotated[
        str | None,
        typer.Option(help="Rescale events of another sensor to the model's size: area, crop or nearest."),
    ] = None
    sensor: Annotated[
        str | None, typer.Option(help="Rows and columns of the camera as H,W, where the files do not say.")
    ] = None
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Skip recordings that cannot be read.")
    ] = False
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Keep no frames of large files in the user's cache folder.")
    ] = False

    @property
    def together(self) -> int:
        """Recordings run at once on a processor."""
        return _FEW if self.batch_size is None else self.batch_size


_FEW = 4


class Running(NamedTuple):
    """What the user said about what runs the network."""

    engine: Annotated[
        str,
        typer.Option(
            help="What runs the network: auto, torch, events (in time proportional to the spikes) or onnx (onnxruntime)."
        ),
    ] = "auto"
    device: Annotated[str, typer.Option(help="Where torch computes: cpu, or a GPU such as cuda.")] = "cpu"


ALL, AS_USUAL = RecordingOptions(), Running()
"""Nothing said."""


def shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take `Loading`, `RecordingOptions` and `Running` as values: each field becomes one of its options.

    The option's default is that of the field in the parameter's default.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type[Loading] | type[RecordingOptions] | type[Running]] = {}
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        if hint is Loading or hint is RecordingOptions or hint is Running:
            groups[parameter.name] = hint
            parameters += [
                parameter.replace(name=name, annotation=kind, default=getattr(parameter.default, name))
                for name, kind in get_type_hints(hint, include_extras=True).items()
            ]
        else:
            parameters.append(parameter.replace(annotation=hint))

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field: given.pop(field) for field in group._fields})
        command(**given)

    described = cast(Any, run)
    described.__signature__ = inspect.Signature(parameters)
    described.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def load_model(model: Path, how: Loading) -> Graph:
    """The graph of the model argument and its options.

    Raises:
        UsageError: If `--input-shape` is not `C,H,W`.
    """
    from tcja_deploy.frontend.load import load

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SilenceWarning)  # said below
        graph = load(model, **load_arguments(how))
    if how.weights_key is None:
        _note_choice(graph)
    if not graph.neurons:
        note(
            "the network has no neurons that spike: its rates are those of its activations, and whatever is said of spikes "
            "does not apply"
        )
    for told in ("silence", "memory"):
        if told in graph.source:
            note(graph.source[told])
    remember_consent(model, how)
    return replace(graph, source={**graph.source, **source_entries(model, how)})


def load_arguments(how: Loading) -> dict[str, Any]:
    """What was said about how to read a model, as the arguments of `load`.

    Raises:
        UsageError: If `--input-shape` is not `C,H,W`, or `--set` not `NAME=VALUE`.
    """
    shape = None if how.input_shape is None else frame_shape(how.input_shape)
    given = {**how._asdict(), "input_shape": shape, "settings": _settings(how.set or [])}
    del given["set"]
    return given


def _settings(given: Iterable[str]) -> dict[str, str]:
    """Arguments written as `NAME=VALUE`, by name."""
    settings: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier() or name in settings:
            reason = "is given twice" if name in settings else "is not NAME=VALUE"
            raise UsageError(f"--set {text!r} {reason}", hint="write, for instance, --set T=10")
        settings[name] = value
    return settings


def _note_choice(graph: Graph) -> None:
    """Say which state dict was read of a file that holds several."""
    others = graph.source.get("weights_not_read")
    if others:
        note(
            f"read the weights under {graph.source.get('weights_key', 'the top of the file')}, not those under {others}; "
            "--weights-key chooses"
        )


def check_outputs(
    paths: Iterable[Path], *, force: bool, suffixes: Collection[str] = (), what: str = "a report"
) -> None:
    """Make sure, before the work starts, that its results can be written.

    Raises:
        UsageError: If a suffix is not one of `suffixes`.
        ExportError: If a path is taken and `force` is not set, or its folder is missing or cannot be written to.
    """
    from tcja_deploy.files import check_free

    for path in paths:
        if suffixes and path.suffix not in suffixes:
            raise UsageError(
                f"cannot write {what} as {path.suffix or 'a file without suffix'}",
                where=str(path),
                hint=f"use {' or '.join(suffixes)}",
            )
        check_free(path, force=force)


def open_dataset(graph: Graph, data: Path, which: RecordingOptions = ALL) -> EventData:
    """Recordings as the graph takes them.

    Raises:
        DataError: If there is nothing readable.
        UsageError: If an option makes no sense.
    """
    features = graph[graph.output].signal.features
    dataset = open_frames(
        graph.T, graph.input_shape, data, which, outputs=features[0] if len(features) == 1 else None
    )
    from tcja_deploy.runtime.activity.frames import frame_fault

    fault = frame_fault(graph, dataset)
    if fault:
        note(f"{dataset.path}: {fault}")
    return dataset


def given_dataset(graph: Graph, data: Path | None, which: RecordingOptions) -> EventData | None:
    """As `open_dataset`; `None` without recordings, in which case options about them are refused."""
    if data is None:
        refuse_recordings(which)
        return None
    return open_dataset(graph, data, which)


def refuse_recordings(which: RecordingOptions, instead: str = "there are none: pass --data") -> None:
    """Refuse options about recordings where a command was given none.

    Raises:
        UsageError: If there are such options; `instead` says what the command has in place of recordings.
    """
    if which._replace(batch_size=None) != ALL:
        raise UsageError(f"--limit, --split-by, --labels and the like are about recordings, but {instead}")


def open_frames(
    T: int, shape: tuple[int, ...], data: Path, which: RecordingOptions, *, outputs: int | None = None
) -> EventData:
    """Recordings as `T` frames of a shape, for a network with so many `outputs`; notes once what was decided on the way.

    Errors as `open_dataset`.
    """
    from tcja_deploy.events import open_data
    from tcja_deploy.events.classes import read_classes

    if len(shape) != 3:
        raise UsageError(f"the model takes frames of shape {shape}, and recordings give frames [C, H, W]")
    channels, height, width = shape
    way = _one_of("--split-by", which.split_by, ("number", "time"))
    frame_time = None if which.frame_time is None else microseconds(which.frame_time)
    if frame_time is not None and way != "number":
        raise UsageError(
            "--frame-time and --split-by time are two ways to make frames", hint="give one of them"
        )
    order = (
        None if which.label_order is None else _one_of("--label-order", which.label_order, ("text", "number"))
    )
    resize = None if which.resize is None else _one_of("--resize", which.resize, ("area", "crop", "nearest"))
    dataset = open_data(
        data,
        timesteps=T,
        sensor=(height, width),
        channels=channels,
        split_by=cast("SplitBy", way),
        frame_time=frame_time,
        limit=which.limit,
        outputs=outputs,
        split=which.split,
        classes=None
        if which.classes is None
        else read_classes(which.classes, order=cast("LabelOrder", order)),
        labels=which.labels,
        label_order=cast("LabelOrder", order),
        resize=cast("Resize", resize),
        camera=None if which.sensor is None else sensor_size(which.sensor),
        cache=not which.no_cache,
    ).checked(skip_broken=which.skip_broken)
    for said in dataset.notes:
        note(said)
    return dataset


def _one_of(option: str, given: str, known: tuple[str, ...]) -> str:
    if given not in known:
        raise UsageError(f"{option} {given!r} is unknown", hint=f"use {' or '.join(known)}")
    return given
