"""Graph to ONNX over whole windows: `[T, N, ...]` in, the network's output out."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import onnx
from onnx import TensorProto, helper

from tcja_deploy.ir import Dim, Graph, Node, Op, Signal
from tcja_deploy.ir import ops as ir
from tcja_deploy.runtime.onnx.emitter import Emitter
from tcja_deploy.runtime.onnx.rules import FRAME, TENSOR, fire, integrated, membrane, recurrence, refuse

__all__ = ["SEQUENCE", "sequence_model"]


class _Values:
    """Names of each value in its two layouts: whole `[T, N, ...]` and folded `[T N, ...]`; converted when first needed."""

    def __init__(self, emitter: Emitter) -> None:
        self._e = emitter
        self._whole: dict[str, str] = {}
        self._folded: dict[str, str] = {}

    def put(self, node: Node, name: str, *, folded: bool) -> None:
        (self._folded if folded else self._whole)[node.name] = name

    def whole(self, name: str, signal: Signal) -> str:
        if name not in self._whole:
            dims = [self._e.T, -1, *signal.features]
            self._whole[name] = self._e.reshape(self._folded[name], dims, name)
        return self._whole[name]

    def folded(self, name: str, signal: Signal) -> str:
        if not signal.streams:
            return self._whole[name]
        if name not in self._folded:
            self._folded[name] = self._e.reshape(self._whole[name], [-1, *signal.features], f"{name}/frames")
        return self._folded[name]


def sequence_model(
    graph: Graph,
    *,
    opset: int,
    batch_first: bool,
    metadata: dict[str, str],
    show: Collection[str] = (),
) -> onnx.ModelProto:
    """Translate a graph.

    Convolutions and pooling run on all `T N` frames at once; neurons are unrolled over T in standard ops. The value of each
    IR node that is kept whole (neurons, gates, readouts) carries the node's name.

    Args:
        graph: The network, usually with batch normalisation folded.
        opset: Opset version.
        batch_first: `[N, T, ...]` for input and streaming output instead of `[T, N, ...]`.
        metadata: Written into the model's metadata properties.
        show: Names of nodes, other than the input and the output, whose values are outputs as well, in the order of the
        graph,
            `[T, N, ...]`.

    Raises:
        UnsupportedError: If an op has no rule; lists every such node.
    """
    known = {*FRAME, *TENSOR, *SEQUENCE, ir.Input}
    refuse((n.name, n.op) for n in graph if type(n.op) not in known)
    e = Emitter(opset, graph.T, reserved=[n.name for n in graph.nodes[1:]])
    values = _Values(e)
    input_name = e.unique(graph.input.name)
    frames = input_name
    if batch_first:
        frames = e.node(
            "Transpose", [input_name], f"{input_name}/time_first", perm=_swapped(graph.input.signal)
        )
    values.put(graph.input, frames, folded=False)
    for node in graph.nodes[1:]:
        ins = graph.signals_in(node)
        folded_name = f"{node.name}/frames" if node.signal.streams else node.name
        if type(node.op) in SEQUENCE:
            xs = [values.whole(i, s) for i, s in zip(node.inputs, ins, strict=True)]
            values.put(node, SEQUENCE[type(node.op)](e, node.op, xs[0], node.name), folded=False)
        elif type(node.op) in FRAME:
            x = values.folded(node.inputs[0], ins[0])
            values.put(
                node, FRAME[type(node.op)](e, node.op, x, folded_name, ins[0]), folded=node.signal.streams
            )
        else:
            xs = [values.whole(i, s) for i, s in zip(node.inputs, ins, strict=True)]
            values.put(node, TENSOR[type(node.op)](e, node.op, xs, node.name, ins, 0), folded=False)
    out = values.whole(graph.output, graph[graph.output].signal)
    signal = graph[graph.output].signal
    if batch_first and signal.streams:
        out = e.node("Transpose", [out], "output", perm=_swapped(signal))
    inputs = [_info(input_name, graph.input.signal, graph.T, batch_first)]
    outputs = [_info(out, signal, graph.T, batch_first)]
    outputs += [
        _info(
            e.node("Identity", [values.whole(node.name, node.signal)], f"{node.name}/shown"),
            node.signal,
            graph.T,
            False,
        )
        for node in graph
        if node.name in show
    ]
    return e.model("tcja_snn", inputs, outputs, metadata)


def _swapped(signal: Signal) -> list[int]:
    return [1, 0, *range(2, len(signal.dims))]


def _info(name: str, signal: Signal, T: int, batch_first: bool) -> onnx.ValueInfoProto:
    dims: tuple[Dim, ...] = signal.dims
    if batch_first and signal.streams:
        dims = (dims[1], dims[0], *dims[2:])
    shape: list[Any] = [T if d == "T" else d for d in dims]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


# -- rules over the window -----------------------------------------------------------------------------------------
def _neuron(e: Emitter, op: ir.Neuron, x: str, name: str) -> str:
    T = e.T
    frames = e.split(x, T, [f"{name}/t{t}/input" for t in range(T)])
    v, fired = e.constant(float(op.v_rest), "v_rest"), []
    for t, frame in enumerate(frames):
        h = membrane(e, op, frame, v, f"{name}/t{t}")
        spikes, v = fire(e, op, h, f"{name}/t{t}", last=t == T - 1)
        fired.append(spikes)
    whole = e.node("Concat", fired, f"{name}/fired", axis=0) if T > 1 else fired[0]
    return e.node("Cast", [whole], name, to=TensorProto.FLOAT)


def _integrator(e: Emitter, op: ir.LI | ir.AffineIntegrator, x: str, name: str) -> str:
    frames = e.split(x, e.T, [f"{name}/t{t}/input" for t in range(e.T)])
    v, membranes = e.constant(float(op.v_rest), "v_rest"), []
    for t, frame in enumerate(frames):
        h, v = integrated(e, op, frame, v, f"{name}/t{t}", last=t == e.T - 1)
        membranes.append(h)
    return e.node("Concat", membranes, name, axis=0)


def _recurrence(e: Emitter, op: ir.Recurrence, x: str, name: str) -> str:
    frames = e.split(x, e.T, [f"{name}/t{t}/input" for t in range(e.T)])
    states, results = [e.constant(float(v), "v_initial") for v in op.initial], []
    for t, frame in enumerate(frames):

        def row(k: int, t: int = t) -> str:
            return e.constant(op.row(k, t), f"{name}.c{k}")

        y, states = recurrence(e, op, frame, states, row, f"{name}/t{t}", last=t == e.T - 1)
        results.append(y)
    return e.node("Concat", results, name, axis=0)


def _tcja(e: Emitter, op: ir.TCJA, x: str, name: str) -> str:
    z = e.reduce("mean", x, [3, 4], False, f"{name}/squeeze")  # [T, N, C]
    maps = []
    if op.tla is not None:
        y = e.node("Transpose", [z], f"{name}/tla/input", perm=[1, 2, 0])
        weight = e.constant(op.tla, f"{name}.tla")
        y = e.node(
            "Conv", [y, weight], f"{name}/tla/map", kernel_shape=[op.k_t], pads=list(ir.same_padding(op.k_t))
        )
        maps.append(e.node("Transpose", [y], f"{name}/tla", perm=[2, 0, 1]))
    if op.cla is not None:
        y = e.node("Transpose", [z], f"{name}/cla/input", perm=[1, 0, 2])
        weight = e.constant(op.cla, f"{name}.cla")
        y = e.node(
            "Conv", [y, weight], f"{name}/cla/map", kernel_shape=[op.k_c], pads=list(ir.same_padding(op.k_c))
        )
        maps.append(e.node("Transpose", [y], f"{name}/cla", perm=[1, 0, 2]))
    joint = maps[0]
    if len(maps) == 2:
        joint = e.node("Mul" if op.fusion == "multiply" else "Add", maps, f"{name}/fusion")
    gate = e.unsqueeze(e.node("Sigmoid", [joint], f"{name}/gate"), [3, 4], f"{name}/gate/map")
    return e.node("Mul", [x, gate], name)


SEQUENCE: dict[type[Op], Callable[[Emitter, Any, str, str], str]] = {
    ir.AffineIntegrator: _integrator,
    ir.AffineNeuron: _neuron,
    ir.IF: _neuron,
    ir.LI: _integrator,
    ir.LIF: _neuron,
    ir.PLIF: _neuron,
    ir.Recurrence: _recurrence,
    ir.TCJA: _tcja,
    ir.TimeMean: lambda e, op, x, name: e.reduce("mean", x, [0], False, name),
}
"""Rules on whole windows: (emitter, op, input, name) -> result."""
