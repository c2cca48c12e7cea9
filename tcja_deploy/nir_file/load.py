"""`.nir` files and `nir.NIRGraph` objects as input (Pedersen et al., Nature Communications 15, 8122, 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tcja_deploy.errors import FileFormatError, GraphError, TraceError, UsageError
from tcja_deploy.files import sha256
from tcja_deploy.ir import Graph, GraphBuilder, Kind, Op
from tcja_deploy.ir import ops as ir
from tcja_deploy.nir_file.container import read_nir_file
from tcja_deploy.nir_file.context import NirReading, NodeContext, ThresholdComparison, free
from tcja_deploy.nir_file.neurons import TEMPORAL
from tcja_deploy.nir_file.notes import read_notes
from tcja_deploy.nir_file.rules import RULES
from tcja_deploy.nir_file.wiring import Wiring
from tcja_deploy.text import printable
from tcja_deploy.unsupported import Unsupported, UnsupportedInContext, UnsupportedParts

__all__ = ["load_nir"]


def load_nir(
    source: str | Path | Any,
    timesteps: int | None = None,
    *,
    dt: float | None = None,
    comparison: ThresholdComparison = ">",
    soft_reset: bool = False,
    input_kind: Kind | None = None,
) -> Graph:
    """Read a NIR graph with one forward Euler step per frame.

    Files that this program wrote carry dt, T, the kind of their input and their readout; arguments take precedence.

    Args:
        source: A `.nir` file, or a `nir.NIRGraph`.
        timesteps: T; NIR has no windows.
        dt: Length of a time step, in the unit of the file's time constants (seconds, as a rule).
        comparison: When a neuron fires: `">"`, above its threshold, is NIR's definition; SpikingJelly means `">="`.
        soft_reset: Whether spikes lower the membrane by the threshold. NIR cannot say so: snnTorch and sinabs write files of
            such neurons that look like others.
        input_kind: What the frames hold; event counts if neither file nor argument tells.

    Returns:
        The graph, time-major.

    Raises:
        FileFormatError: If the file is missing, damaged or not a NIR file.
        TraceError: If a node has no translation; lists every such node.
        UsageError: If an argument is missing or makes no sense.
    """
    if dt is not None and not (np.isfinite(dt) and dt > 0):
        raise UsageError(f"dt = {dt} is not a time step", hint="pass a positive number, such as 1e-4")
    if comparison not in (">", ">="):
        raise UsageError(f"unknown comparison {comparison!r}", hint="'>' or '>='")
    if isinstance(source, str | Path):
        path = Path(source)
        content, version = read_nir_file(path)
        origin = {
            "file": printable(path.name),
            "file_sha256": sha256(path),
            "format": "NIR",
            "nir_version": version,
        }
    elif hasattr(source, "to_dict") and type(source).__name__ == "NIRGraph":
        content, origin = source.to_dict(), {"format": "NIR"}
    else:
        raise UsageError(
            f"a {type(source).__name__} is not a NIR graph", hint="pass a .nir file or a nir.NIRGraph"
        )
    where = origin.get("file", "")
    if content.get("type") != "NIRGraph":
        raise FileFormatError(f"the root is a {content.get('type')}, not a NIRGraph", where=where)
    notes = read_notes(content, where)
    dt = notes.dt if dt is None else dt
    T = notes.T if timesteps is None else timesteps
    if T is None:
        raise UsageError(
            "NIR has no windows: nothing gives the number of time steps",
            where=where,
            hint="pass timesteps=T, or --timesteps T",
        )
    wiring = Wiring.of(content)
    if dt is None and any(node.get("type") in TEMPORAL for node in wiring.nodes.values()):
        raise UsageError(
            "the file does not say how long a time step is",
            where=where,
            hint=_dt_hint(wiring),
        )
    reading = NirReading(dt or 1.0, comparison, soft_reset)
    translation = _Translation(wiring, GraphBuilder(T), reading, input_kind or notes.input_kind)
    output = translation.run()
    if translation.misshapen and translation.samples_declared:
        other = _Translation(
            Wiring.of(content), GraphBuilder(T), reading, input_kind or notes.input_kind, drop_samples=True
        )
        result = other.run()
        if not other.misshapen:
            translation, output = other, result
    if translation.drop_samples:
        origin["assumptions"] = "the input's first axis, of length 1, is the batch"
    translation.unsupported.raise_if_any(
        TraceError, "{} of the NIR graph cannot be translated", whole="graph"
    )
    for i, op in enumerate(notes.readout):
        output = _readout(translation.builder, free(f"readout.{i}", translation.taken), op, output, where)
    if dt is not None:
        origin |= {
            "dt": repr(dt),
            "fires": f"{comparison} threshold",
            "reset": "soft" if soft_reset else "hard",
        }
    return translation.builder.finish(output, origin)


def _dt_hint(wiring: Wiring) -> str:
    """What to pass for dt, by who writes such time constants: sinabs counts them in time steps, the others in seconds."""
    found = [np.asarray(n[k]) for n in wiring.nodes.values() for k in ("tau", "tau_mem", "tau_syn") if k in n]
    numbers = np.concatenate([a.ravel() for a in found if a.dtype.kind == "f"] or [np.zeros(0)])
    writers = "SpikingJelly and snnTorch write dt = 1e-4, Norse dt squared, 1e-6, sinabs 1"
    if len(numbers) and float(numbers.min()) >= 1:
        return f"pass dt=1 (--dt 1) if its time constants, {numbers.min():g} and more, count time steps, as sinabs writes them"
    return f"pass dt (--dt) in the unit of its time constants: {writers}"


def _readout(builder: GraphBuilder, name: str, op: Op, x: str, where: str) -> str:
    try:
        return builder.add(name, op, x)
    except GraphError as error:
        raise FileFormatError(f"the readout does not fit the network: {error.reason}", where=where) from error


_MOST_AXES = 3
"""Axes of a frame, `[C, H, W]`; a shape of more begins with the batch."""


# -- from nodes to ops ------------------------------------------------------------------------------------------
@dataclass
class _Translation:
    """One attempt at a translation.

    Attributes:
        drop_samples: Whether the shapes of input and output begin with a batch axis, as Norse's files have it.
        samples_declared: Whether the input's shape may begin with one.
    """

    wiring: Wiring
    builder: GraphBuilder
    reading: NirReading
    input_kind: Kind
    drop_samples: bool = False
    samples_declared: bool = False
    values: dict[str, str] = field(default_factory=dict)
    tainted: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.taken |= self.wiring.nodes.keys()

    @property
    def unsupported(self) -> UnsupportedParts:
        """What cannot be translated."""
        return self.wiring.unsupported

    @property
    def misshapen(self) -> bool:
        """Whether shapes do not fit."""
        return self.unsupported.any_in_context

    def refuse(self, name: str, reason: str, hint: str = "") -> None:
        """Note why a node cannot be translated."""
        self.unsupported.add(name, Unsupported(reason, hint))

    def run(self) -> str:
        """Translate everything; the name of the result, or of any value if something cannot be translated."""
        result = ""
        for name in self.wiring.order():
            node = self.wiring.nodes[name]
            sources = [s for s in self.wiring.sources.get(name, ()) if s in self.values]
            if not sources:
                if node.get("type") == "Input":
                    self._input(name, node)
                elif not self.unsupported:
                    self.refuse(name, "reads nothing")
                continue
            if any(s in self.tainted for s in self.wiring.sources[name]) or len(sources) < len(
                self.wiring.sources[name]
            ):
                self.tainted.add(name)
            x = self._sum(name, [self.values[s] for s in sources])
            if node.get("type") in ("Input", "Output"):  # of the graph, or of a subgraph
                self.values[name] = x
                if not self.wiring.targets.get(name):
                    if result:
                        self.refuse(name, "is a second output", "translate one network at a time")
                    self._check_shape(name, node, x)
                    result = x
            else:
                self.values[name] = self._translate(name, node, x)
        if not result and not self.unsupported:
            self.refuse("", "no output can be reached from an input")
        return result

    def _input(self, name: str, node: Mapping[str, Any]) -> None:
        shape = np.asarray(node.get("shape", ())).ravel()
        self.samples_declared = len(shape) > 1 and shape[0] == 1
        self.drop_samples = self.drop_samples or (self.samples_declared and len(shape) > _MOST_AXES)
        if self.drop_samples:
            shape = shape[1:]
        if any(isinstance(self.builder[v].op, ir.Input) for v in self.values.values()):
            self.refuse(name, "is a second input", "merge the inputs")
        elif shape.dtype.kind not in "iu" or not shape.size or shape.min() < 1:
            self.refuse(name, f"has no shape: {shape.tolist()}")
        else:
            self.values[name] = self.builder.add(name, ir.Input(tuple(map(int, shape)), self.input_kind))

    def _check_shape(self, name: str, node: Mapping[str, Any], x: str) -> None:
        shape = np.asarray(node.get("shape", ())).ravel().tolist()
        features = list(self.builder.signal(x).features)
        if shape == [1, *features]:  # the batch, whether or not the input has it too
            shape = shape[1:]
        if shape and shape != features and name not in self.tainted:
            self.refuse(name, f"is declared {shape}, but computes {features}", "the file contradicts itself")

    def _sum(self, name: str, values: list[str]) -> str:
        """The sum of the values on several edges into one node."""
        if len(values) == 1:
            return values[0]
        try:
            return self.builder.add(free(f"{name}.sum", self.taken), ir.Add(), *values)
        except GraphError as error:
            if not self.tainted:
                self.refuse(name, error.reason)
            return values[0]

    def _translate(self, name: str, node: Mapping[str, Any], x: str) -> str:
        kind = str(node.get("type"))
        translated: list[str] = []
        with self.unsupported.at(name, certain=name not in self.tainted):
            if kind not in RULES:
                raise Unsupported(f"{kind} has no translation", f"known: {', '.join(RULES)}")
            try:
                context = NodeContext(self.builder, name, node, self.reading, self.taken)
                translated.append(RULES[kind](context, x))
            except GraphError as error:
                raise UnsupportedInContext(error.reason) from error
            except (TypeError, ValueError, OverflowError) as error:
                raise Unsupported(f"has a parameter that is not readable ({error})") from error
        if not translated:
            self.tainted.add(name)
        return translated[0] if translated else x
