"""JSON Schemas of everything that this program writes as JSON, from the records that are written.

A document that is written from a dataclass is closed: every field is named, required and typed as in the dataclass.
`schema_text("energy-report")` gives one as text; the files are in `tcja_deploy/schemas`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from importlib import resources

from tcja_deploy.errors import UsageError
from tcja_deploy.library.schema_parts import (
    MAYBE_NUMBER,
    NUMBER,
    PLAIN,
    SHA256,
    TEXT,
    TEXTS,
    WHOLE,
    Schema,
    closed,
    list_of,
    record_of,
    report_of,
    row_of,
    tables_of,
)

__all__ = ["DOCUMENTS", "schema", "schema_text"]


def _agreement() -> Schema:
    mismatch = closed(
        {"sample": WHOLE, "t": WHOLE, "index": list_of(WHOLE), "expected": WHOLE, "distance": MAYBE_NUMBER}
    )
    counts = ("neuron_steps", "spikes_reference", "spikes_artifact", "mismatches")
    layer = {
        "name": TEXT,
        **dict.fromkeys(counts, WHOLE),
        "first_mismatch": {"anyOf": [mismatch, {"type": "null"}]},
    }
    return closed(
        {
            "passed": {"type": "boolean"},
            **dict.fromkeys(("samples", "predictions_equal"), WHOLE),
            **dict.fromkeys(
                (
                    "output_max_abs_difference",
                    "output_error_where_spikes_are_equal",
                    "bound_mismatches_per_neuron_step",
                ),
                NUMBER,
            ),
            **dict.fromkeys(("mismatches", "neuron_steps"), WHOLE),
            "mismatches_per_neuron_step": NUMBER,
            "silence": TEXT,
            "layers": list_of(closed(layer)),
        }
    )


def _export() -> Schema:
    from tcja_deploy.exporters.report import NodeReport

    properties = {
        "target": TEXT,
        "path": TEXT,
        **dict.fromkeys(("files", "removed"), list_of(TEXT)),
        "nodes": list_of(record_of(NodeReport)),
        "notes": list_of(TEXT),
        "parity": {"anyOf": [_agreement(), {"type": "null"}]},
        "comparisons": {"type": "object", "additionalProperties": _agreement()},
        "provenance": TEXTS,
    }
    return report_of("tcja-deploy export", closed(properties))


def _verification() -> Schema:
    head = {"artifact": TEXT, "runtime": TEXT}
    properties = {**head, **_agreement()["properties"], "provenance": TEXTS}
    return report_of("tcja-deploy verification", closed(properties))


def _manifest() -> Schema:
    from tcja_deploy.exporters.manifest import FORMAT, SEAL, VERSION
    from tcja_deploy.exporters.report import NodeReport
    from tcja_deploy.exporters.targets import TARGETS

    model = {
        "sha256": SHA256, "source": TEXTS, "T": WHOLE, "input": list_of(TEXT), "input_kind": TEXT,
        "output": list_of(TEXT), "parameters": WHOLE,
    }  # fmt: skip
    entries: dict[str, Schema] = {
        "format": {"const": FORMAT},
        "format_version": {"const": VERSION},
        "target": {"enum": list(TARGETS)},
        "model": closed(model),
        "files": {"type": "object", "additionalProperties": closed({"bytes": WHOLE, "sha256": SHA256})},
        "nodes": list_of(record_of(NodeReport)),
        "parity": {"anyOf": [_agreement(), {"type": "null"}]},
        "comparisons": {"type": "object", "additionalProperties": _agreement()},
        "notes": list_of(TEXT),
        "versions": TEXTS,
        SEAL: SHA256,
        **{name: {"type": "object"} for name in TARGETS},  # facts that only this target has
    }
    return closed(entries, list(TARGETS))


def _inspection() -> Schema:
    row = {
        "name": TEXT, "op": TEXT, "shape": list_of(TEXT), "kind": TEXT,
        **dict.fromkeys(("parameters", "macs", "lookahead"), WHOLE),
    }  # fmt: skip
    properties = {
        "T": WHOLE, "sha256": SHA256, "input_shape": list_of(WHOLE), "parameters": WHOLE, "source": TEXTS,
        "nodes": list_of(closed(row)),
    }  # fmt: skip
    return report_of("tcja-deploy inspection", closed(properties))


def _graph() -> Schema:
    from tcja_deploy.ir.ops import OPS
    from tcja_deploy.ir_file import FORMAT_VERSION

    tensor = closed({"tensor": TEXT})
    constant = {
        "anyOf": [tensor, *({"type": kind} for kind in ("number", "string", "boolean", "array", "null"))]
    }
    node = {
        "name": TEXT,
        "op": {"enum": sorted(OPS)},
        "inputs": list_of(TEXT),
        "constants": {"type": "object", "additionalProperties": constant},
    }
    properties = {
        "version": {"const": FORMAT_VERSION}, "T": WHOLE, "output": TEXT, "source": TEXTS, "sha256": SHA256,
        "nodes": list_of(closed(node)),
    }  # fmt: skip
    return closed(properties)


def _bundle() -> Schema:
    """The fields of the network itself; facts about its quantisation stand beside them."""
    numbers = ("frames", "latency")
    shape = list_of(WHOLE)
    host = {
        "shape": shape, "payload_shape": shape, "binary": PLAIN[bool], "peak": WHOLE, "scale": WHOLE, "unit": NUMBER,
        "limbs": shape,
    }  # fmt: skip
    readout = {
        "where": TEXT, "linear": PLAIN[bool], "vote": WHOLE, "time_mean": PLAIN[bool], "function": TEXT,
    }  # fmt: skip
    part = {
        "type": "object",
        "properties": {"kind": TEXT, "file": TEXT, "arrives": WHOLE, "in_shape": shape},
        "required": ["kind", "file", "arrives", "in_shape"],
    }
    properties: dict[str, Schema] = {
        "version": WHOLE, "name": TEXT, **dict.fromkeys(numbers, WHOLE), "unit": NUMBER, "input": closed(host),
        "parts": list_of(part), "readout": closed(readout, ["function"]), "made_for": list_of(TEXT),
        "quantisation": {"type": "object"}, "accuracy": {"type": "object"},
    }  # fmt: skip
    found = closed(properties, ["version"])
    return {**found, "additionalProperties": True}


def _stream() -> Schema:
    from tcja_deploy.runtime.stream.cost import StreamCost
    from tcja_deploy.runtime.stream.decision import Outcome

    properties = {
        "engine": TEXT, "engine_label": TEXT, "exact": PLAIN[bool], "cost": record_of(StreamCost),
        "outcome": record_of(Outcome), "agreement": _agreement(), "provenance": TEXTS,
    }  # fmt: skip
    return {
        **report_of("tcja-deploy stream", closed(properties)),
        "additionalProperties": WHOLE,
    }


def _sweep() -> Schema:
    from tcja_deploy.runtime.stream.sweep import Divergence

    return list_of(record_of(Divergence))


def _profiles() -> Schema:
    row = {
        "name": TEXT,
        "title": TEXT,
        "kind": TEXT,
        "pricings": TEXT,
        "missing": WHOLE,
        "version": TEXT,
    }
    return list_of(closed(row))


def _profile() -> Schema:
    """A profile, whose empty fields are left out."""
    from tcja_deploy.hardware_profiles import Profile

    names = [f.name for f in dataclasses.fields(Profile)]
    needed = ("name", "version", "title", "kind", "sources", "pricing")
    return closed({name: {} for name in names}, [n for n in names if n not in needed])


def _energy() -> Schema:
    from tcja_deploy.energy.report.record import Report

    return report_of("tcja-deploy energy report", record_of(Report))


def _rates() -> Schema:
    from tcja_deploy.energy.report.rates import Rates

    return report_of("tcja-deploy firing rates", record_of(Rates, provenance=TEXTS))


def _reproduction() -> Schema:
    from tcja_deploy.energy.report.reproduce import Reproduction

    return report_of("tcja-deploy reproduction", record_of(Reproduction, provenance=TEXTS))


def _comparison() -> Schema:
    main = {
        "model": TEXT, "accuracy": MAYBE_NUMBER, "parameters": WHOLE, "timesteps": WHOLE, "macs": WHOLE,
        "synops": NUMBER, "rate": MAYBE_NUMBER,
    }  # fmt: skip
    interval = {
        "model": TEXT, "quantity": TEXT, "value": NUMBER, "ci95_low": MAYBE_NUMBER, "ci95_high": MAYBE_NUMBER,
    }  # fmt: skip
    tables = {
        "comparison": row_of(main, {r"^energy_\d+_(pJ|to_first|to_ann)$": MAYBE_NUMBER}),
        "differences": row_of(interval),
        "intervals": row_of(interval),
    }
    return tables_of("tcja-deploy comparison", tables, ["differences", "intervals"])


def _benchmark() -> Schema:
    maybe_whole: Schema = {"type": ["integer", "null"]}
    row = {
        "target": TEXT, "runtime": TEXT, "size_bytes": maybe_whole, "accuracy": MAYBE_NUMBER,
        "differing_spikes": maybe_whole, "neuron_steps": maybe_whole, "ms_per_recording": MAYBE_NUMBER,
        "turns": maybe_whole, "note": TEXT,
    }  # fmt: skip
    numbered = {r"^(energy|measured)_\d+_pJ$": MAYBE_NUMBER}
    return tables_of("tcja-deploy benchmark", {"benchmark": row_of(row, numbered)})


def _neurobench() -> Schema:
    operations = closed(dict.fromkeys(("Effective_MACs", "Effective_ACs", "Dense"), NUMBER))
    properties = {
        "ClassificationAccuracy": NUMBER, "Footprint": WHOLE, "ParameterCount": WHOLE,
        "ConnectionSparsity": NUMBER, "ActivationSparsity": NUMBER, "SynapticOperations": operations,
    }  # fmt: skip
    return closed(properties, ["ClassificationAccuracy"])


def _tuning() -> Schema:
    counts = ("samples", "labelled", "float_correct", "integer_correct", "agree")
    step = closed(dict.fromkeys(counts, WHOLE))
    properties = {
        "path": {"type": ["string", "null"]},
        "trained_on": WHOLE,
        "losses": list_of(NUMBER),
        "steps": closed(dict.fromkeys(("rounded", "biases corrected", "tuned"), step)),
        "unrounded": list_of(TEXT),
        "provenance": TEXTS,
    }
    return report_of("tcja-deploy tuning", closed(properties))


def _diagnosis() -> Schema:
    from tcja_deploy.exporters.lava.environment import Diagnosis

    return list_of(record_of(Diagnosis))


DOCUMENTS: Mapping[str, tuple[str, Callable[[], Schema]]] = {
    "manifest": ("`manifest.json` of a folder, `NAME.manifest.json` beside a file", _manifest),
    "export": ("`export --json`; `td.export(...).save`", _export),
    "verification": ("`verify --json`; `td.verify(...).save`", _verification),
    "agreement": ("the parity of a manifest", _agreement),
    "energy-report": ("`energy --json`, `-o x.json`; `td.energy(...).save`", _energy),
    "reproduction": ("`energy --reproduce --json`", _reproduction),
    "firing-rates": ("`rates --json`, `-o x.json`; `td.rates(...).save`", _rates),
    "comparison": ("`compare --json`, `-o x.json`; `td.compare(...).save`", _comparison),
    "benchmark": ("`benchmark --json`, `-o x.json`; `td.benchmark(...).save`", _benchmark),
    "neurobench": ("`rates --neurobench x.json`; `td.neurobench(...).save`", _neurobench),
    "graph": ("`tcja_deploy.graph` in the metadata of a `.tcja` file", _graph),
    "inspection": ("`inspect --json` of a model; `td.inspect(...).save`", _inspection),
    "lava-bundle": (
        "`inspect --json` of a Lava bundle; `td.inspect(...).save`; the section `lava` of its manifest",
        _bundle,
    ),
    "stream": ("`stream --json`; `td.stream(...).save`", _stream),
    "stream-sweep": ("`stream --sweep --json`, `--fit --json`", _sweep),
    "profile": ("`profiles show --json`", _profile),
    "profiles": ("`profiles list --json`", _profiles),
    "tuning": ("`lava tune --json`; `td.tune(...).save`", _tuning),
    "lava-doctor": ("`lava doctor --json`", _diagnosis),
}
"""Where each document is written, and its schema, by name."""


def schema(name: str) -> Schema:
    """The schema of a document.

    Raises:
        UsageError: There is no such document.
    """
    if name not in DOCUMENTS:
        raise UsageError(f"there is no document {name!r}", hint=f"use one of {', '.join(DOCUMENTS)}")
    where, make = DOCUMENTS[name]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"tcja-deploy {name}",
        "description": where.replace("`", ""),
        **make(),
    }


def schema_text(name: str) -> str:
    """The text of a schema as it ships.

    Raises:
        UsageError: There is no such document.
    """
    if name not in DOCUMENTS:
        raise UsageError(f"there is no document {name!r}", hint=f"use one of {', '.join(DOCUMENTS)}")
    return (resources.files("tcja_deploy.schemas") / f"{name}.json").read_text(encoding="utf-8")


def written(name: str) -> str:
    """The text that the file of a schema must hold."""
    return json.dumps(schema(name), indent=2) + "\n"
