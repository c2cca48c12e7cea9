"""What a Lava bundle computes, and at which step."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from tcja_deploy.energy.render.documents import tables_document
from tcja_deploy.energy.render.plots import Plot, bar_plot
from tcja_deploy.energy.render.table import Column, Table, shape_text
from tcja_deploy.errors import UsageError
from tcja_deploy.library.result import Result

__all__ = ["BundleInspection", "bundle_inspection"]


@dataclass(frozen=True, eq=False)
class BundleInspection(Result):
    """What a Lava bundle computes, and at which step.

    Attributes:
        path: The bundle.
        section: What its manifest says of the integer network; the schema `lava-bundle` describes it.
    """

    path: Path
    section: dict[str, Any]

    @property
    def latency(self) -> int:
        """Steps from a frame to its result."""
        return int(self.section["latency"])

    def _stages(self) -> Iterator[tuple[dict[str, Any], dict[str, Any], int, str]]:
        """Each stage with its part, the step at which the first frame arrives, and what it reads."""
        before = "input"
        for part in self.section["parts"]:
            arrives, reads = part["arrives"], _reads(part, before)
            for stage in part.get("layers", [part]):
                yield stage, part, arrives, reads
                arrives, reads, before = stage["step"], stage["name"], stage["name"]

    def tables(self) -> Sequence[Table]:
        """The stages in order, and the steps at which the first frame comes in and goes out."""
        rows = tuple(
            (
                part["file"], stage["name"], stage["kind"], shape_text(tuple(stage["out_shape"])), reads, arrives,
                stage["step"],
            )
            for stage, part, arrives, reads in self._stages()
        )  # fmt: skip
        columns = (
            Column("file", "File"),
            Column("stage", "Stage"),
            Column("kind", "Kind"),
            Column("output", "Output"),
            Column("reads", "Reads (delay in steps)"),
            Column("arrives_step", "Frame 0 in", "int"),
            Column("leaves_step", "Frame 0 out", "int"),
        )
        frames = self.section["frames"]
        notes = (
            f"Latency {self.latency} steps; N windows take {frames} N + {self.latency}; each gate or program over a "
            f"window waits {frames - 1} of them.",
            f"On the host: {', '.join(_host(self.section['readout'])) or 'nothing'}.",
        )
        title = f"Lava bundle {self.path}: {self.section['name']}, T = {frames}"
        return [Table("stages", title, columns, rows, notes)]

    def document(self, suffix: str) -> str:
        """The table in one format; JSON is what `tcja-deploy inspect --json` prints of a bundle."""
        if suffix == ".json":
            return json.dumps(self.section, indent=2) + "\n"
        facts = {"bundle": str(self.path), "frames": str(self.section["frames"])}
        return tables_document(
            "tcja-deploy inspection", self.path.name, facts, self.tables(), suffix, self.plots()
        )

    def plots(self) -> Sequence[Plot]:
        """Values that each stage gives per step."""
        sizes = {stage["name"]: float(prod(stage["out_shape"])) for stage, *_ in self._stages()}
        caption = "Values (spikes or payloads) that each stage of the bundle can give in one step."
        return [bar_plot("values", caption, list(sizes), {"values": list(sizes.values())}, "values per step")]


def bundle_inspection(path: Path, loading: Iterable[str] = ()) -> BundleInspection:
    """Read a bundle and check it.

    Args:
        path: The bundle.
        loading: Names of what was said about how to read it.

    Raises:
        FileFormatError: The bundle is damaged.
        UsageError: Something was said about how to read it.
    """
    if said := ", ".join(loading):
        raise UsageError(
            f"{said}: these say how to read a model, but a Lava bundle says everything itself",
            where=str(path),
            hint="leave them out",
        )
    from tcja_deploy.exporters.lava.bundle import read_bundle

    return BundleInspection(path, read_bundle(path).section)


def _reads(part: dict[str, Any], before: str) -> str:
    """What a part reads, and by how many steps each input is delayed."""
    names = ["input" if name == ":host" else name for name in part.get("inputs", [before])]
    delays = part.get("delays", [0] * len(names))
    return ", ".join(name + (f" ({k})" if k else "") for name, k in zip(names, delays, strict=True))


def _host(readout: dict[str, Any]) -> list[str]:
    """What the host computes after the last stage."""
    parts = {
        "a linear map": readout["linear"],
        "a mean over time": readout["time_mean"],
        f"a {readout.get('function')}": readout.get("function"),
        f"a vote of {readout['vote']}": readout["vote"] > 1,
    }
    return [name for name, there in parts.items() if there]
