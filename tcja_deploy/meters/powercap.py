"""RAPL, the energy counters of processors, as Linux shows them below `/sys/class/powercap`.

Source: the kernel's documentation of powercap. A zone `intel-rapl:N` is a package or the platform (AMD's processors have the
same names), `intel-rapl:N:M` a part of it. `energy_uj` counts microjoules up to `max_energy_range_uj` and wraps around.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tcja_deploy.meters.counter import EnergyCounter

__all__ = ["POWERCAP", "RaplZone", "find_zones"]

POWERCAP = Path("/sys/class/powercap")

_ZONE = re.compile(r"intel-rapl:\d+(:\d+)?")
"""Zones that are read through registers; those of `intel-rapl-mmio` are the same packages once more."""

_DIGITS = 20
"""Digits of the largest number of 64 bits."""


@dataclass(frozen=True)
class RaplZone(EnergyCounter):
    """One zone that can be read.

    Attributes:
        folder: Its folder.
        source: `"RAPL"` and its name.
        wraps_at: Microjoules at which it wraps around.
    """

    folder: Path
    source: str
    wraps_at: int

    def read(self) -> int:
        """Microjoules counted so far.

        Raises:
            OSError: It cannot be read any more.
        """
        return _number(self.folder / "energy_uj")


def _number(file: Path) -> int:
    text = file.read_text(errors="replace").strip()
    if not text.isdecimal() or len(text) > _DIGITS:
        raise OSError(f"{file} holds {text[:40]!r} instead of a number")
    return int(text)


def find_zones(root: Path = POWERCAP) -> tuple[Sequence[RaplZone], str]:
    """The zones that add up without overlap: packages, and the memory beside them.

    A package includes its cores and its graphics, which would otherwise be counted twice; the platform (psys) includes
    everything.

    Args:
        root: Folder of powercap.

    Returns:
        The zones that can be read, and why there is none or why some are missing; empty if all is well.
    """
    if not root.is_dir():
        return (), "RAPL: this machine has no powercap (virtual machines and containers often do not)"
    found, refused = [], []
    for folder in sorted(root.iterdir()):
        if not _ZONE.fullmatch(folder.name):
            continue
        try:
            name = (folder / "name").read_text(errors="replace").strip()
            part = folder.name.count(":") > 1
            if name != "dram" if part else not name.startswith("package"):
                continue
            label = f"dram-{folder.name.split(':')[1]}" if part else name
            zone = RaplZone(folder, f"RAPL {label}", _number(folder / "max_energy_range_uj"))
            zone.read()
        except PermissionError:
            refused.append(folder.name)
        except OSError as error:
            refused.append(f"{folder.name} ({error.strerror or error})")
        else:
            found.append(zone)
    if refused:
        why = f"RAPL: energy_uj of {', '.join(refused)} cannot be read; only root may, unless its mode is changed"
        return tuple(found), why
    return tuple(found), "" if found else "RAPL: powercap names no package of a processor"
