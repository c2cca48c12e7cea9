"""What a convention is: a name, a version, and a description of what it adds up and what it leaves out."""

from __future__ import annotations

from dataclasses import dataclass

from tcja_deploy.hardware_profiles import ChipKind

__all__ = ["HOROWITZ", "Convention"]


@dataclass(frozen=True, slots=True)
class Convention:
    """One way to account for energy.

    Attributes:
        name: Name.
        version: Version of its definition; changes whenever a number could change.
        title: Description in one line.
        formulas: What it adds up.
        excluded: What it leaves out, and why.
        sources: Publications that define it.
        kinds: Kinds of profiles that can price it.
    """

    name: str
    version: str
    title: str
    formulas: tuple[str, ...]
    excluded: tuple[str, ...]
    sources: tuple[str, ...]
    kinds: tuple[ChipKind, ...]

    @property
    def label(self) -> str:
        """Name and version, printed with every number."""
        return f"{self.name} v{self.version}"


HOROWITZ = "Horowitz, ISSCC 2014, doi:10.1109/ISSCC.2014.6757323 (prices of the 45 nm profile)"
"""Source of the prices that the published papers use."""
