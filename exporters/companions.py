"""What lies beside an artifact that is one file, and whose it is.

`net.onnx` has `net.manifest.json`, `net.golden.npz` and, if it is asked for, `net.card.md`; so would `net.nir` in the same
folder. The manifest says which of the two they belong to, and an export never takes them from the other.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from tcja_deploy.errors import ExportError, FileFormatError
from tcja_deploy.exporters.manifest import NAME, listed_files
from tcja_deploy.exporters.target import Target
from tcja_deploy.exporters.targets import TARGETS
from tcja_deploy.files import path_status
from tcja_deploy.reading.beginning import first_bytes

__all__ = ["GOLDEN", "beside", "card_name", "check_owner", "set_names"]

GOLDEN = "golden.npz"
"""Name of the golden sample inside a folder; next to a file it is `<stem>.golden.npz`."""


def beside(artifact: Path, name: str) -> Path:
    """Path of a file that belongs to an artifact that is a file: `net.manifest.json` for `net.onnx`."""
    return artifact.with_name(f"{_stem(artifact.name)}.{name}")


def _stem(name: str) -> str:
    return name.removesuffix(Path(name).suffix)


def card_name(folder: bool) -> str:
    """Name of the model card; in a folder, the name that model hubs display."""
    return "README.md" if folder else "card.md"


def set_names(place: Path, target: Target[Any, Any], *, card: bool) -> tuple[str, ...]:
    """Names of all files that an export may have, ending with the one that the user asked for.

    Those of an earlier artifact of this name are among them, whatever its target, and so is a card that nobody asks for if
    this program wrote it: it describes what is replaced.

    Args:
        place: The artifact.
        target: Its target.
        card: Whether a model card is asked for.
    """
    own, manifest = beside(place, card_name(False)), beside(place, NAME)
    cards = (own.name,) if card or _is_card(own) else ()
    earlier, _ = _told(manifest)
    targets = [target, *([TARGETS[earlier]] if earlier in TARGETS else [])]
    others = dict.fromkeys(name for one in targets for name in one.beside(place.name))
    return (*cards, beside(place, GOLDEN).name, manifest.name, *others, place.name)


def _told(manifest: Path) -> tuple[str, tuple[str, ...]]:
    """Target and files that a manifest tells; nothing if there is none, it is damaged, or it is somebody else's."""
    try:
        return listed_files(manifest) if path_status(manifest) == "file" else ("", ())
    except FileFormatError:
        return "", ()


def check_owner(place: Path) -> None:
    """Make sure that the files beside a new artifact do not belong to another one.

    Raises:
        ExportError: If they do, and the other one is there.
    """
    stem = _stem(place.name)
    for name in _told(beside(place, NAME))[1]:
        if name != place.name and _stem(name) == stem and os.path.lexists(place.with_name(name)):
            other = f"{stem}-{place.suffix[1:]}{place.suffix}"
            raise ExportError(
                f"golden sample and manifest beside it would have the names of those of {name}, which is there",
                where=str(place),
                hint=f"choose a name with another stem, such as {other}, or another folder; "
                f"--force does not replace what belongs to {name}",
            )


_CARD_HEAD_BYTES = 4096
_CARD_HEAD = re.compile(rb"""---\n(?:.*\n)*?library_name: ["']?tcja-deploy["']?\n""")


def _is_card(path: Path) -> bool:
    """Whether a file begins like the model cards of this program."""
    if path_status(path, ExportError) != "file":
        return False
    try:
        return _CARD_HEAD.match(first_bytes(path, _CARD_HEAD_BYTES)) is not None
    except FileFormatError:  # it may not be read: whoever wrote it, it is not removed
        return False
