"""The notes of this program in the `.nir` files that it writes: NIR has neither time steps nor windows nor readouts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tcja_deploy.errors import FileFormatError, GraphError
from tcja_deploy.ir import Kind, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.reading.json_text import parse_json

__all__ = ["METADATA", "READOUT", "Notes", "read_notes"]

METADATA = "tcja_deploy"
"""Key of the graph metadata that this program writes and reads: a JSON text with dt, T, input_kind and readout."""
READOUT: dict[str, type[Op]] = {"TimeMean": ir.TimeMean, "Vote": ir.Vote}
"""Ops after the last NIR node, by name: they run where the spikes are read out."""


@dataclass(frozen=True)
class Notes:
    """What a file says about itself.

    Attributes:
        dt: Length of a time step, in the unit of the file's time constants; `None` if it does not say.
        T: Time steps of a window; `None` if it does not say.
        input_kind: What the frames hold.
        readout: Ops after the last node, in order.
    """

    dt: float | None = None
    T: int | None = None
    input_kind: Kind = Kind.COUNT
    readout: tuple[Op, ...] = ()


_STRUCTURE = {"dt": float, "T": int, "input_kind": str, "readout": [[object]]}


def read_notes(content: Mapping[str, Any], where: str) -> Notes:
    """The notes in a NIR graph (as `container.read_nir_file` gives it); empty ones if another program wrote it.

    Raises:
        FileFormatError: If they are damaged.
    """
    metadata = content.get("metadata")
    text = metadata.get(METADATA) if isinstance(metadata, Mapping) else None
    if text is None:
        return Notes()
    said = parse_json(str(text), _STRUCTURE, where=where, hint="export it again")
    try:
        dt, T = float(said["dt"]), said["T"]
        if not (dt > 0 and T > 0):
            raise ValueError(f"dt = {dt}, T = {T}")
        readout = tuple(READOUT[name](*arguments) for name, *arguments in said["readout"])
        return Notes(dt, T, Kind(said["input_kind"]), readout)
    except (ValueError, KeyError, TypeError, GraphError) as error:
        raise FileFormatError(
            f"what tcja-deploy noted in this file is not readable ({error})",
            where=where,
            hint="export it again",
        ) from error
