"""Model cards: Markdown with a YAML head, as model hubs read it, made from the manifest of an export.

The fields at the top (`library_name`, `license`, `tags`, `metrics`, `model-index`) are those of Hugging Face's model cards
(https://github.com/huggingface/hub-docs/blob/main/modelcard.md). Everything else is under `tcja_deploy`. Every number is
taken from the manifest or the energy report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tcja_deploy.energy.render.formats import one_line, to_markdown
from tcja_deploy.energy.render.report_tables import totals_table
from tcja_deploy.energy.render.table import Column, Table
from tcja_deploy.errors import UsageError
from tcja_deploy.exporters.frames import SYNTHETIC_SAMPLES
from tcja_deploy.exporters.report import ExportReport
from tcja_deploy.exporters.targets import find_target
from tcja_deploy.ir import Graph
from tcja_deploy.ir.ops import TCJA
from tcja_deploy.library.accounting import EnergyReport
from tcja_deploy.library.exported import comparison_table, target_table
from tcja_deploy.library.sources import Passing
from tcja_deploy.library.yaml_text import to_yaml

__all__ = ["CardFacts", "hub_license", "model_card"]

Entries = Mapping[str, Any]
"""Entries of a manifest."""

_UNKNOWN = "unknown"
"""What hubs take for a licence that nobody has named."""

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
"""Identifiers of model hubs: those of SPDX in lower case, `other` and `unknown`."""


@dataclass(frozen=True, eq=False)
class CardFacts:
    """What a card says besides the manifest.

    Attributes:
        name: Name of the model.
        graph: The network as it was trained.
        frames: Recordings that it was calibrated and verified on; `None` for synthetic samples.
        energy: Energy of the network on recordings; `None` if no activity was given.
        license: Identifier of the licence of the weights; see `hub_license`.
    """

    name: str
    graph: Graph
    frames: Passing | None
    energy: EnergyReport | None
    license: str


def hub_license(text: str | None) -> str:
    """The identifier of a licence as model hubs write it; `"unknown"` for `None`, because no checkpoint states its licence.

    Raises:
        UsageError: The text is not an identifier.
    """
    if text is None:
        return _UNKNOWN
    if not _LICENSE.fullmatch(text.lower()):
        raise UsageError(
            f"{text!r} is not the identifier of a licence",
            hint="write for instance apache-2.0, mit or cc-by-sa-4.0, or other for one without an identifier",
        )
    return text.lower()


def model_card(entries: Entries, report: ExportReport, about: CardFacts) -> str:
    """The card of an export.

    Args:
        entries: Entries of its manifest.
        report: What the export did.
        about: Facts that neither of them states.
    """
    record = _record(entries, report, about)
    title = _prose(f"{about.name}, {find_target(entries['target']).title}")
    parts = [_network(record, about), _parity(record), _approximations(record, report), _data(record)]
    if about.energy is not None:
        parts.append(_energy(about.energy, record))
    parts += [_files(record), _CITATION]
    return "\n".join(["---", f"{to_yaml(_head(record, about))}---", "", f"# {title}", "", *parts])


# -- the head --------------------------------------------------------------------------------------------------------------
def _head(record: Entries, about: CardFacts) -> dict[str, object]:
    tags = ["spiking-neural-network", "neuromorphic", record["target"]]
    if any(isinstance(node.op, TCJA) for node in about.graph):
        tags.append("tcja")
    found: dict[str, object] = {"library_name": "tcja-deploy", "license": about.license, "tags": tags}
    accuracy = record.get("accuracy")
    if accuracy is not None:
        result = {
            "task": {"type": "image-classification", "name": "Classification"},
            "dataset": {"type": "recordings", "name": accuracy["data"]},
            "metrics": [{"type": "accuracy", "value": accuracy["value"], "name": "Accuracy"}],
        }
        found |= {"metrics": ["accuracy"], "model-index": [{"name": about.name, "results": [result]}]}
    return {**found, "tcja_deploy": record}


def _record(entries: Entries, report: ExportReport, about: CardFacts) -> dict[str, Any]:
    """All numbers of the card, by name."""
    graph, model = about.graph, entries["model"]
    macs = sum(node.op.macs(*graph.signals_in(node), T=graph.T) for node in graph)
    moved = report.moved_spikes
    found: dict[str, Any] = {
        "version": entries["versions"]["tcja_deploy"],
        "network": model["source"].get("architecture", about.name),
        "target": entries["target"],
        "timesteps": model["T"],
        "input": [str(d) for d in graph.input.signal.dims],
        "input_kind": str(model["input_kind"]),
        "output": model["output"],
        "nodes": len(graph.nodes),
        "spiking_layers": len(graph.neurons),
        "parameters": model["parameters"],
        "macs_per_inference": macs,
        "parity": _agreement(entries["parity"]),
        "comparisons": {name: _agreement(found) for name, found in entries["comparisons"].items()},
        "differing_from_the_trained_network": None
        if moved is None
        else {"mismatches": moved[0], "neuron_steps": moved[1]},
        "approximated": [
            {"node": n["name"], "op": n["op"], "how": n["note"]}
            for n in entries["nodes"]
            if n["fidelity"] == "approximated"
        ],
        "notes": list(entries["notes"]),
        "data": _recordings(about.frames),
    }
    if about.energy is not None:
        found |= _activity(about.energy)
    return {
        **found,
        "model_sha256": model["sha256"],
        "source": dict(model["source"]),
        "files": dict(entries["files"]),
        "versions": dict(entries["versions"]),
    }


def _agreement(found: Entries | None) -> dict[str, Any] | None:
    if found is None:
        return None
    names = (
        "passed", "samples", "predictions_equal", "mismatches", "neuron_steps", "mismatches_per_neuron_step",
        "bound_mismatches_per_neuron_step", "output_max_abs_difference", "output_error_where_spikes_are_equal",
    )  # fmt: skip
    return {name: found[name] for name in names}


def _recordings(frames: Passing | None) -> dict[str, Any]:
    if frames is None:
        return {"synthetic_samples": SYNTHETIC_SAMPLES}
    return {"name": frames.names, "samples": frames.samples, "sha256": frames.digest}


def _activity(energy: EnergyReport) -> dict[str, Any]:
    report = energy.report
    confusion, data = report.rates.confusion, report.provenance.get("data", "recordings")
    found: dict[str, Any] = {}
    if confusion is not None:
        found["accuracy"] = {
            "value": confusion.accuracy, "right": confusion.right, "of": confusion.recordings, "data": data,
        }  # fmt: skip
    found["energy"] = [
        {
            "network": e.subject,
            "convention": e.convention,
            "prices": e.profile,
            "energy_pJ": None if e.energy_pJ is None else e.energy_pJ.mean,
            "complete": e.complete,
        }
        for e in energy.estimates
    ]
    found["energy_data"] = {
        "name": data, "recordings": report.recordings, "sha256": report.provenance.get("data SHA-256", ""),
    }  # fmt: skip
    return found


# -- the body --------------------------------------------------------------------------------------------------------------
def _section(title: str, rows: Sequence[tuple[str, object]], notes: Sequence[str] = ()) -> str:
    """Facts by name under a heading."""
    columns = (Column("quantity", "Quantity"), Column("value", "Value"))
    cells = tuple(
        (name, f"{v:,}" if isinstance(v, int) and not isinstance(v, bool) else str(v)) for name, v in rows
    )
    return to_markdown(Table("facts", title, columns, cells, tuple(map(one_line, notes))))


def _network(record: Entries, about: CardFacts) -> str:
    source = record["source"]
    known = ("file", "file_sha256", "format", "weights", "code", "proof", "assumptions")
    return _section(
        "Network",
        [
            ("network", record["network"]),
            ("licence of the weights", about.license),
            ("time steps T", record["timesteps"]),
            ("input", f"[{', '.join(record['input'])}], {record['input_kind']}"),
            ("output", f"[{', '.join(record['output'])}]"),
            ("nodes", record["nodes"]),
            ("spiking layers", record["spiking_layers"]),
            ("parameters", record["parameters"]),
            ("dense MACs per inference", record["macs_per_inference"]),
            *((f"source: {name}", source[name]) for name in known if name in source),
            ("SHA-256 of the network", record["model_sha256"]),
        ],
    )


def _parity(record: Entries) -> str:
    found = record["parity"]
    if found is None:
        return "## Parity\n\nThe artifact was not verified.\n"
    return _section(
        "Parity: the artifact beside its reference, spike for spike",
        [
            ("verdict", "agrees" if found["passed"] else "DISAGREES"),
            ("mismatching spikes", found["mismatches"]),
            ("of neuron-steps", found["neuron_steps"]),
            ("mismatches per neuron-step", found["mismatches_per_neuron_step"]),
            ("allowed mismatches per neuron-step", found["bound_mismatches_per_neuron_step"]),
            ("equal predictions", f"{found['predictions_equal']} of {found['samples']} samples"),
            ("largest difference of outputs", found["output_max_abs_difference"]),
            ("the same where spikes are equal, relative", found["output_error_where_spikes_are_equal"]),
        ],
    )


def _approximations(record: Entries, report: ExportReport) -> str:
    parts = ["## Approximations\n"]
    nodes = tuple((n["node"], n["op"], n["how"]) for n in record["approximated"])
    columns = (Column("node", "Node"), Column("op", "Op"), Column("how", "How, and how far off"))
    if nodes:
        title = f"{len(nodes)} of {len(report.nodes)} nodes are approximated"
        parts.append(to_markdown(Table("approximated", title, columns, nodes), level=3))
    else:
        parts.append(f"None: all {len(report.nodes)} nodes are exact.\n")
    moved = record["differing_from_the_trained_network"]
    if moved is not None:
        parts.append(
            f"Spikes that differ from those of the network as it was trained, batch normalisation folded: "
            f"{moved['mismatches']:,} of {moved['neuron_steps']:,} neuron-steps.\n"
        )
    if report.comparisons:
        parts.append(to_markdown(comparison_table(report.comparisons), level=3))
    parts += [to_markdown(target_table(own, i), level=3) for i, own in enumerate(report.details)]
    parts += [f"- {_prose(note)}" for note in report.notes]
    return "\n".join([*parts, ""])


def _data(record: Entries) -> str:
    data = record["data"]
    if "synthetic_samples" in data:
        return f"## Data\n\nVerified on {data['synthetic_samples']} synthetic samples, not on recordings.\n"
    used = "Calibrated and verified on" if record["parity"] is not None else "Calibrated on"
    return _section(
        "Data", [("recordings", data["name"]), ("samples", data["samples"]), ("SHA-256", data["sha256"])],
        [f"{used} these recordings."],
    )  # fmt: skip


def _energy(energy: EnergyReport, record: Entries) -> str:
    rows: list[tuple[str, object]] = []
    if "accuracy" in record:
        found = record["accuracy"]
        rows.append(("accuracy", f"{100 * found['value']:.2f} % ({found['right']} of {found['of']})"))
    data = record["energy_data"]
    rows += [("recordings", f"{data['recordings']} of {data['name']}"), ("SHA-256", data["sha256"])]
    told = _section(
        "Accuracy and energy", rows, ["Energies are estimates from exact counts, by named conventions."]
    )
    return f"{told}\n{to_markdown(totals_table(energy.report), level=3)}"


def _files(record: Entries) -> str:
    columns = (Column("file", "File"), Column("bytes", "Bytes", "int"), Column("sha256", "SHA-256"))
    rows = tuple((name, facts["bytes"], facts["sha256"]) for name, facts in record["files"].items())
    made = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return to_markdown(Table("files", "Files", columns, rows, (_prose(f"Made with {made}."),)))


def _prose(text: str) -> str:
    """A sentence in which nothing is markup."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|" else c for c in one_line(text))


_CITATION = """## Citation

The attention of these networks is that of

```bibtex
@article{zhu2024tcja,
  title   = {{TCJA-SNN}: Temporal-Channel Joint Attention for Spiking Neural Networks},
  author  = {Zhu, Rui-Jie and Zhang, Malu and Zhao, Qihang and Deng, Haoyu and Duan, Yule and Deng, Liang-Jian},
  journal = {IEEE Transactions on Neural Networks and Learning Systems},
  year    = {2024},
  url     = {https://arxiv.org/abs/2206.10177}
}
```
"""
