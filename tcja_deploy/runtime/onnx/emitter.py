"""Collects ONNX nodes and initializers while a graph is translated."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tcja_deploy.errors import UsageError

__all__ = ["MOST_BYTES", "OPSETS", "Emitter"]

OPSETS = range(13, 24)
"""Opset versions that can be written."""

MOST_BYTES = 1_800_000_000
"""Largest size of a model that holds its weights itself; protobuf's limit is 2 GiB."""

_IR_VERSION = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11}


class Emitter:
    """Nodes and initializers of one ONNX graph; hides what changed between opsets.

    Args:
        opset: Opset version to write.
        T: Time steps of the window.
        reserved: Names that results will carry later, so that no constant takes them first.

    Raises:
        UsageError: If the opset is outside `OPSETS`.
    """

    def __init__(self, opset: int, T: int, reserved: Iterable[str] = ()) -> None:
        if opset not in OPSETS:
            raise UsageError(
                f"opset {opset} is not supported", hint=f"choose one of {OPSETS[0]} to {OPSETS[-1]}"
            )
        self.opset = opset
        self.T = T
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._constants: dict[tuple[str, str], str] = {}
        self._names: set[str] = set()
        self._reserved = set(reserved)

    def unique(self, name: str) -> str:
        """`name`, with a number appended if it is taken or reserved."""
        candidate, i = name, 1
        while candidate in self._names or candidate in self._reserved:
            i += 1
            candidate = f"{name}_{i}"
        self._names.add(candidate)
        return candidate

    def node(self, op_type: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Append a node with one result, whose name is `name` made unique; returns that."""
        (out,) = self.nodes_with(op_type, inputs, [name], **attributes)
        return out

    def nodes_with(
        self, op_type: str, inputs: Sequence[str], names: Sequence[str], **attributes: Any
    ) -> list[str]:
        """Append a node with several results; returns their names."""
        self._reserved.difference_update(names)
        outputs = [self.unique(n) for n in names]
        self.nodes.append(
            helper.make_node(op_type, list(inputs), outputs, name=f"{outputs[0]}:{op_type}", **attributes)
        )
        return outputs

    def constant(self, value: NDArray[Any] | Sequence[int] | float, name: str) -> str:
        """An initializer; equal ones are stored once. Lists of integers become int64, single numbers float32 scalars."""
        array = np.asarray(value, np.float32 if isinstance(value, float) else None, order="C")
        key = (f"{array.dtype}{array.shape}", hashlib.sha256(array.tobytes()).hexdigest())
        if key not in self._constants:
            self._constants[key] = self.unique(name)
            self.initializers.append(numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    # -- ops whose form depends on the opset ---------------------------------------------------------------
    def reshape(self, x: str, shape: Sequence[int], name: str) -> str:
        """`x` in another shape, which may hold one -1."""
        label = "x".join(map(str, shape)).replace("-1", "n")
        return self.node("Reshape", [x, self.constant(np.array(shape, np.int64), f"shape_{label}")], name)

    def reduce(self, how: str, x: str, axes: Sequence[int], keepdims: bool, name: str) -> str:
        """`x` reduced over `axes`; `how` is mean, max or sum."""
        op_type = {"mean": "ReduceMean", "max": "ReduceMax", "sum": "ReduceSum"}[how]
        as_input = self.opset >= (13 if how == "sum" else 18)
        if as_input:
            axes_name = self.constant(np.array(axes, np.int64), "axes_" + "_".join(map(str, axes)))
            return self.node(op_type, [x, axes_name], name, keepdims=int(keepdims))
        return self.node(op_type, [x], name, axes=list(axes), keepdims=int(keepdims))

    def unsqueeze(self, x: str, axes: Sequence[int], name: str) -> str:
        """`x` with new axes of length 1 at `axes` of the result."""
        axes_name = self.constant(np.array(axes, np.int64), "axes_" + "_".join(map(str, axes)))
        return self.node("Unsqueeze", [x, axes_name], name)

    def split(self, x: str, parts: int, names: Sequence[str]) -> list[str]:
        """`x` split along axis 0 into parts of length 1."""
        if parts == 1:
            return [x]
        sizes = self.constant(np.ones(parts, np.int64), f"ones_{parts}")
        return self.nodes_with("Split", [x, sizes], names, axis=0)

    def model(
        self,
        name: str,
        inputs: list[onnx.ValueInfoProto],
        outputs: list[onnx.ValueInfoProto],
        metadata: dict[str, str],
    ) -> onnx.ModelProto:
        """The finished model, checked.

        Raises:
            onnx.checker.ValidationError: If the emitted graph is not valid; a defect of the exporter.
        """
        from tcja_deploy.version import __version__

        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.initializers)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", self.opset)],
            producer_name="tcja-deploy",
            producer_version=__version__,
            ir_version=_IR_VERSION[self.opset],
        )
        helper.set_model_props(model, metadata)
        return model
