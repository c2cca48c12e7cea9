"""JSON Schemas of everything that this program writes as JSON, from the records that are written.

A document is closed where a record stands behind it: every field is named, required and typed as in the dataclass.
`schema_text("energy-report")` is one as text; the files are in `tcja_deploy/schemas`.
"""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from fractions import Fraction
from importlib import resources
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from tcja_deploy.errors import UsageError

__all__ = ["DOCUMENTS", "schema", "schema_text"]

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "object", "additionalProperties": _TEXT}
_NUMBER: Schema = {"type": "number"}
_MAYBE_NUMBER: Schema = {"type": ["number", "null"]}
_WHOLE: Schema = {"type": "integer"}
_SHA256: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_PLAIN: Mapping[Any, Schema] = {
    str: _TEXT,
    int: _WHOLE,
    bool: {"type": "boolean"},
    float: _NUMBER,
    Fraction: _NUMBER,
    type(None): {"type": "null"},
    Any: {},
    object: {},
}


def _closed(properties: Mapping[str, Schema], optional: Sequence[str] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {
        "type": "object", "properties": dict(properties), "required": required, "additionalProperties": False,
    }  # fmt: skip


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def of_type(kind: Any) -> Schema:
    """The schema of a value as `energy.render.documents.plain` or `dataclasses.asdict` write it.

    Raises:
        TypeError: A type that JSON has no form for.
    """
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [of_type(a) for a in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return _list(of_type(arguments[0]))
        items = [of_type(a) for a in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": of_type(arguments[1])}
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return _list(of_type(arguments[0]))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [member.value for member in kind]}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _record(kind)
    raise TypeError(f"no schema for {kind}")


def _record(kind: type, **more: Schema) -> Schema:
    hints = get_type_hints(kind)
    return _closed({**{f.name: of_type(hints[f.name]) for f in dataclasses.fields(kind)}, **more})


def _report(kind: str, body: Schema) -> Schema:
    """A document that says what it is."""
    head: dict[str, Schema] = {"kind": {"const": kind}, "schema": {"const": 2}}
    return _closed(
        {**head, **body["properties"]}, [p for p in body["properties"] if p not in body["required"]]
    )


def _tables(kind: str, tables: Mapping[str, Schema], optional: Sequence[str] = ()) -> Schema:
    return _report(
        kind, _closed({**{k: _list(v) for k, v in tables.items()}, "provenance": _TEXTS}, optional)
    )


def _row(properties: Mapping[str, Schema], patterns: Mapping[str, Schema] | None = None) -> Schema:
    """A row of a table; columns whose number depends on what was asked for have a pattern."""
    return {**_closed(properties), "patternProperties": dict(patterns or {})}


def _agreement() -> Schema:
    mismatch = _closed(
        {"sample": _WHOLE, "t": _WHOLE, "index": _list(_WHOLE), "expected": _WHOLE, "distance": _MAYBE_NUMBER}
    )
    counts = ("neuron_steps", "spikes_reference", "spikes_artifact", "mismatches")
    layer = {
        "name": _TEXT,
        **dict.fromkeys(counts, _WHOLE),
        "first_mismatch": {"anyOf": [mismatch, {"type": "null"}]},
    }
    return _closed(
        {
            "passed": {"type": "boolean"},
            **dict.fromkeys(("samples", "predictions_equal"), _WHOLE),
            **dict.fromkeys(
                (
                    "output_max_abs_difference",
                    "output_error_where_spikes_are_equal",
                    "bound_mismatches_per_neuron_step",
                ),
                _NUMBER,
            ),
            **dict.fromkeys(("mismatches", "neuron_steps"), _WHOLE),
            "mismatches_per_neuron_step": _NUMBER,
            "silence": _TEXT,
            "layers": _list(_closed(layer)),
        }
    )


def _export() -> Schema:
    from tcja_deploy.exporters.report import NodeReport

    properties = {
        "target": _TEXT,
        "path": _TEXT,
        "files": _list(_TEXT),
        "nodes": _list(_record(NodeReport)),
        "notes": _list(_TEXT),
        "parity": {"anyOf": [_agreement(), {"type": "null"}]},
        "comparisons": {"type": "object", "additionalProperties": _agreement()},
        "provenance": _TEXTS,
    }
    return _report("tcja-deploy export", _closed(properties))


def _verification() -> Schema:
    head = {"artifact": _TEXT, "runtime": _TEXT}
    properties = {**head, **_agreement()["properties"], "provenance": _TEXTS}
    return _report("tcja-deploy verification", _closed(properties))


def _manifest() -> Schema:
    from tcja_deploy.exporters.manifest import FORMAT, SEAL, VERSION
    from tcja_deploy.exporters.report import NodeReport
    from tcja_deploy.exporters.targets import TARGETS

    model = {
        "sha256": _SHA256, "source": _TEXTS, "T": _WHOLE, "input": _list(_TEXT), "input_kind": _TEXT,
        "output": _list(_TEXT), "parameters": _WHOLE,
    }  # fmt: skip
    entries: dict[str, Schema] = {
        "format": {"const": FORMAT},
        "format_version": {"const": VERSION},
        "target": {"enum": list(TARGETS)},
        "model": _closed(model),
        "files": {"type": "object", "additionalProperties": _closed({"bytes": _WHOLE, "sha256": _SHA256})},
        "nodes": _list(_record(NodeReport)),
        "parity": {"anyOf": [_agreement(), {"type": "null"}]},
        "comparisons": {"type": "object", "additionalProperties": _agreement()},
        "notes": _list(_TEXT),
        "versions": _TEXTS,
        SEAL: _SHA256,
        **{name: {"type": "object"} for name in TARGETS},  # what only a target has to say
    }
    return _closed(entries, list(TARGETS))


def _inspection() -> Schema:
    row = {
        "name": _TEXT, "op": _TEXT, "shape": _list(_TEXT), "kind": _TEXT,
        **dict.fromkeys(("parameters", "macs", "lookahead"), _WHOLE),
    }  # fmt: skip
    return _closed(
        {
            "T": _WHOLE, "sha256": _SHA256, "input_shape": _list(_WHOLE), "parameters": _WHOLE, "source": _TEXTS,
            "nodes": _list(_closed(row)),
        }
    )  # fmt: skip


def _bundle() -> Schema:
    """The network's own part; what quantising said of it is beside that."""
    numbers = ("frames", "latency")
    shape = _list(_WHOLE)
    host = {
        "shape": shape, "payload_shape": shape, "binary": _PLAIN[bool], "peak": _WHOLE, "scale": _WHOLE, "unit": _NUMBER,
        "limbs": shape,
    }  # fmt: skip
    readout = {
        "where": _TEXT, "linear": _PLAIN[bool], "vote": _WHOLE, "time_mean": _PLAIN[bool], "function": _TEXT,
    }  # fmt: skip
    part = {
        "type": "object",
        "properties": {"kind": _TEXT, "file": _TEXT, "arrives": _WHOLE, "in_shape": shape},
        "required": ["kind", "file", "arrives", "in_shape"],
    }
    properties: dict[str, Schema] = {
        "version": _WHOLE, "name": _TEXT, **dict.fromkeys(numbers, _WHOLE), "unit": _NUMBER, "input": _closed(host),
        "parts": _list(part), "readout": _closed(readout, ["function"]), "made_for": _list(_TEXT),
        "quantisation": {"type": "object"}, "accuracy": {"type": "object"},
    }  # fmt: skip
    found = _closed(properties, ["version"])
    return {**found, "additionalProperties": True}


def _stream() -> Schema:
    from tcja_deploy.runtime.stream.cost import StreamCost
    from tcja_deploy.runtime.stream.decision import Outcome

    properties = {
        "engine": _TEXT, "engine_label": _TEXT, "exact": _PLAIN[bool], "cost": _record(StreamCost),
        "outcome": _record(Outcome), "agreement": _agreement(),
    }  # fmt: skip
    return {**_closed(properties), "additionalProperties": _WHOLE}  # further numbers of the engine


def _sweep() -> Schema:
    from tcja_deploy.runtime.stream.sweep import Divergence

    return _list(_record(Divergence))


def _profiles() -> Schema:
    row = {
        "name": _TEXT,
        "title": _TEXT,
        "kind": _TEXT,
        "pricings": _TEXT,
        "missing": _WHOLE,
        "version": _TEXT,
    }
    return _list(_closed(row))


def _profile() -> Schema:
    """Empty entries are left out."""
    from tcja_deploy.hardware_profiles import Profile

    names = [f.name for f in dataclasses.fields(Profile)]
    needed = ("name", "version", "title", "kind", "sources", "pricing")
    return _closed({name: {} for name in names}, [n for n in names if n not in needed])


def _energy() -> Schema:
    from tcja_deploy.energy.report.record import Report

    return _report("tcja-deploy energy report", _record(Report))


def _rates() -> Schema:
    from tcja_deploy.energy.report.rates import Rates

    return _report("tcja-deploy firing rates", _record(Rates, provenance=_TEXTS))


def _reproduction() -> Schema:
    from tcja_deploy.energy.report.reproduce import Reproduction

    return _report("tcja-deploy reproduction", _record(Reproduction, provenance=_TEXTS))


def _comparison() -> Schema:
    main = {
        "model": _TEXT, "accuracy": _MAYBE_NUMBER, "parameters": _WHOLE, "timesteps": _WHOLE, "macs": _WHOLE,
        "synops": _NUMBER, "rate": _MAYBE_NUMBER,
    }  # fmt: skip
    interval = {
        "model": _TEXT, "quantity": _TEXT, "value": _NUMBER, "ci95_low": _MAYBE_NUMBER, "ci95_high": _MAYBE_NUMBER,
    }  # fmt: skip
    tables = {
        "comparison": _row(main, {r"^energy_\d+_(pJ|to_first|to_ann)$": _MAYBE_NUMBER}),
        "differences": _row(interval),
        "intervals": _row(interval),
    }
    return _tables("tcja-deploy comparison", tables, ["differences", "intervals"])


def _benchmark() -> Schema:
    maybe_whole: Schema = {"type": ["integer", "null"]}
    row = {
        "target": _TEXT, "runtime": _TEXT, "size_bytes": maybe_whole, "accuracy": _MAYBE_NUMBER,
        "differing_spikes": maybe_whole, "neuron_steps": maybe_whole, "ms_per_recording": _MAYBE_NUMBER,
        "turns": maybe_whole, "note": _TEXT,
    }  # fmt: skip
    numbered = {r"^(energy|measured)_\d+_pJ$": _MAYBE_NUMBER}
    return _tables("tcja-deploy benchmark", {"benchmark": _row(row, numbered)})


def _neurobench() -> Schema:
    operations = _closed(dict.fromkeys(("Effective_MACs", "Effective_ACs", "Dense"), _NUMBER))
    properties = {
        "ClassificationAccuracy": _NUMBER, "Footprint": _WHOLE, "ParameterCount": _WHOLE,
        "ConnectionSparsity": _NUMBER, "ActivationSparsity": _NUMBER, "SynapticOperations": operations,
    }  # fmt: skip
    return _closed(properties, ["ClassificationAccuracy"])


def _tuning() -> Schema:
    counts = ("samples", "labelled", "float_correct", "integer_correct", "agree")
    step = _closed(dict.fromkeys(counts, _WHOLE))
    properties = {
        "path": {"type": ["string", "null"]},
        "trained_on": _WHOLE,
        "losses": _list(_NUMBER),
        "steps": _closed(dict.fromkeys(("rounded", "biases corrected", "tuned"), step)),
        "unrounded": _list(_TEXT),
        "provenance": _TEXTS,
    }
    return _report("tcja-deploy tuning", _closed(properties))


def _diagnosis() -> Schema:
    from tcja_deploy.exporters.lava.environment import Diagnosis

    return _list(_record(Diagnosis))


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
    "inspection": ("`inspect --json` of a model", _inspection),
    "lava-bundle": ("`inspect --json` of a Lava bundle; the section `lava` of its manifest", _bundle),
    "stream": ("`stream --json`", _stream),
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
    """The schema as it ships.

    Raises:
        UsageError: There is no such document.
    """
    if name not in DOCUMENTS:
        raise UsageError(f"there is no document {name!r}", hint=f"use one of {', '.join(DOCUMENTS)}")
    return (resources.files("tcja_deploy.schemas") / f"{name}.json").read_text(encoding="utf-8")


def written(name: str) -> str:
    """The text of the file of a schema."""
    return json.dumps(schema(name), indent=2) + "\n"
