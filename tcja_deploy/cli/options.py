"""Options that several commands share, and what they load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from tcja_deploy.errors import UsageError

if TYPE_CHECKING:
    from tcja_deploy.events import EventData
    from tcja_deploy.events.integrate import SplitBy
    from tcja_deploy.ir import Graph

__all__ = [
    "ArchOption",
    "BatchOption",
    "DataOption",
    "DtOption",
    "ForceOption",
    "InputShapeOption",
    "JsonOption",
    "LimitOption",
    "Loading",
    "ModelArgument",
    "SplitByOption",
    "TimestepsOption",
    "TrustPickleOption",
    "load_model",
    "open_dataset",
    "open_frames",
]

ModelArgument = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="Checkpoint, state dict, pickled module or .tcja file.", show_default=False
    ),
]
ArchOption = Annotated[
    str | None, typer.Option(help="Zoo network the weights belong to, if they do not tell themselves.")
]
TimestepsOption = Annotated[
    int | None, typer.Option("--timesteps", "-T", help="Time steps T, if the weights do not tell.")
]
InputShapeOption = Annotated[
    str | None, typer.Option(help="One input frame as C,H,W, if the weights do not tell.")
]
TrustPickleOption = Annotated[
    bool, typer.Option("--trust-pickle", help="Let the model file run code while it is loaded.")
]
DtOption = Annotated[
    float | None, typer.Option("--dt", help="Seconds of a time step of a .nir file, if it does not tell.")
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        help="Recordings: a folder of class folders, or one .bin, .npz or .npy file.", show_default=False
    ),
]
LimitOption = Annotated[
    int | None, typer.Option(help="Use at most this many recordings, spread over the classes.")
]
SplitByOption = Annotated[
    str, typer.Option(help="Frames of equal numbers of events ('number') or equal time ('time').")
]
BatchOption = Annotated[int, typer.Option("--batch-size", min=1, help="Recordings run at once.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


class Loading(NamedTuple):
    """What the user said about how to read the model."""

    arch: str | None = None
    timesteps: int | None = None
    input_shape: str | None = None
    trust_pickle: bool = False
    dt: float | None = None


def load_model(model: Path, how: Loading) -> Graph:
    """The graph of the model argument and its options.

    Raises:
        UsageError: If ``--input-shape`` is not ``C,H,W``.
    """
    from tcja_deploy.frontend.load import load

    shape = None
    if how.input_shape is not None:
        try:
            shape = tuple(int(n) for n in how.input_shape.split(","))
        except ValueError:
            raise UsageError(
                f"--input-shape {how.input_shape!r} is not C,H,W", hint="write for instance 2,128,128"
            ) from None
    return load(
        model,
        arch=how.arch,
        timesteps=how.timesteps,
        input_shape=shape,
        trust_pickle=how.trust_pickle,
        dt=how.dt,
    )


def open_dataset(graph: Graph, data: Path, split_by: str = "number", limit: int | None = None) -> EventData:
    """Recordings as the graph takes them.

    Raises:
        DataError: If there is nothing readable.
        UsageError: If an option makes no sense.
    """
    return open_frames(graph.T, graph.input_shape, data, split_by, limit)


def open_frames(
    T: int, shape: tuple[int, ...], data: Path, split_by: str = "number", limit: int | None = None
) -> EventData:
    """Recordings as ``T`` frames of a shape. Errors as ``open_dataset``."""
    from tcja_deploy.events import open_data

    ways: dict[str, SplitBy] = {"number": "number", "time": "time"}
    if split_by not in ways:
        raise UsageError(f"--split-by {split_by!r} is unknown", hint="use number or time")
    if len(shape) != 3:
        raise UsageError(f"the model takes frames of shape {shape}, recordings give C,H,W")
    channels, height, width = shape
    return open_data(
        data, timesteps=T, sensor=(height, width), channels=channels, split_by=ways[split_by], limit=limit
    )
