"""Opening and running ONNX models that may be hostile.

Neither onnxruntime nor onnx's own parser and checker bound what a model may ask for: a loop of 2**62 rounds, a constant of
6 GB. A model is checked first (ops, sizes, files it refers to), then runs in a process of its own with limits on memory and
time; models that this process has just written run in this one.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.errors import DeployError, FileFormatError, VerificationError
from tcja_deploy.files import being_written, path_status
from tcja_deploy.reading.child import Child, ForeignError
from tcja_deploy.reading.limits import check_bytes
from tcja_deploy.reading.messages import Arrays, Message
from tcja_deploy.runtime.threads import available_cores

__all__ = ["Model", "Results", "open_session", "return_memory", "worker"]

# fmt: off
_OPS = frozenset((
    "Abs", "Add", "And", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Clip", "Concat",
    "Constant", "Conv", "ConvTranspose", "Cos", "CumSum", "Div", "Elu", "Equal", "Erf", "Exp", "Expand",
    "Flatten", "Floor", "Gather", "GatherElements", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool",
    "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization",
    "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "MatMul", "Max",
    "MaxPool", "Mean", "Min", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pad", "Pow", "Reciprocal",
    "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare", "Relu", "Reshape", "Round", "Shape", "Sigmoid", "Sign", "Sin", "Slice", "Softmax",
    "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "ThresholdedRelu", "Transpose",
    "Unsqueeze", "Where", "Xor",
))
# fmt: on
"""Ops of exported models and similar ones: no loops, no branches, no random numbers, no functions."""

_MOST_NODES = 1 << 21


class Results(Mapping[str, NDArray[Any]]):
    """Results of a run by name; what was packed is unpacked whenever it is read.

    Attributes:
        nbytes: Bytes that they take while nobody reads them.
    """

    def __init__(self, values: Mapping[str, NDArray[Any] | _Packed]) -> None:
        self._values = dict(values)
        self.nbytes = sum(value.nbytes for value in self._values.values())

    def __getitem__(self, name: str) -> NDArray[Any]:
        value = self._values[name]
        return value.array if isinstance(value, _Packed) else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Model:
    """An ONNX model, open.

    Attributes:
        properties: Its metadata.
        inputs: Shape of each input by name; axes of any length are strings. Empty before `start`.
        outputs: Names of its own outputs.
    """

    def __init__(self, path: Path, *, trusted: bool = False) -> None:
        """Read and check a model, without starting it.

        Args:
            path: The file.
            trusted: Whether to work in this process, where nothing bounds memory and time, but nothing is copied either.

        Raises:
            FileFormatError: If it is not an ONNX model, or one with ops or sizes that no export has.
        """
        self.path = path
        if path_status(path) != "file":
            raise FileFormatError("there is no such file", where=str(path))
        check_bytes(path.stat().st_size, "the file", where=str(path))
        self._child: Child | None = None
        if trusted or being_written(path):
            self._answer = worker()
        else:
            self._child = Child(f"{__name__}:worker", where=str(path), what="onnxruntime")
            self._answer = self._child.ask
        try:
            facts, _ = self._ask({"do": "read", "path": str(path.resolve())})
        except ForeignError as error:
            raise FileFormatError(f"this is not a readable ONNX model ({error})", where=str(path)) from error
        self.properties: dict[str, str] = facts["properties"]
        self.outputs: list[str] = facts["outputs"]
        self.inputs: dict[str, list[int | str]] = {}

    def lacking(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that no value of the model has."""
        missing: list[str] = self._ask({"do": "find", "names": list(names)})[0]["missing"]
        return missing

    def start(self, show: Sequence[str] = (), *, fired: Sequence[str] = ()) -> None:
        """Make a session in which further values can be read.

        Args:
            show: Names of values to read as they are.
            fired: Names of values to read as booleans, which say what is not zero. A session with some of these returns its
                memory after every run with large results, since they are the values of whole windows.

        Raises:
            FileFormatError: If onnxruntime does not accept the model, or more memory or time is needed than the limits allow.
        """
        try:
            facts, _ = self._ask({"do": "start", "show": list(show), "fired": list(fired)})
        except ForeignError as error:
            raise FileFormatError(
                f"onnxruntime does not accept this model ({error})", where=str(self.path)
            ) from error
        self.inputs = dict(facts["inputs"])

    def run(self, feeds: Mapping[str, NDArray[Any]], wanted: Sequence[str]) -> Results:
        """Run the model on inputs by name, and return the wanted values by name.

        Raises:
            VerificationError: If the model fails on this input.
            FileFormatError: If more memory or time is needed than the limits allow.
        """
        try:
            _, arrays = self._ask({"do": "run", "wanted": list(wanted)}, dict(feeds))
        except ForeignError as error:
            raise VerificationError(
                f"onnxruntime fails on this model ({error})", where=str(self.path)
            ) from error
        if arrays.keys() != set(wanted):
            raise VerificationError("the model lacks results", where=str(self.path))
        return arrays if isinstance(arrays, Results) else Results(arrays)

    def _ask(self, facts: dict[str, Any], arrays: Arrays | None = None) -> Message:
        try:
            answer: Message = self._answer((facts, arrays or {}))
            return answer
        except (DeployError, ForeignError) as error:
            if isinstance(error, DeployError):
                error.where = error.where.replace(str(self.path.resolve()), str(self.path)) or str(self.path)
            raise
        except Exception as error:  # in this process: onnx's and onnxruntime's exceptions have no common base
            raise ForeignError(str(error)) from error

    def close(self) -> None:
        """End the process, if there is one."""
        if self._child is not None:
            self._child.close()


# -- where the model is ----------------------------------------------------------------------------------------------------
def worker() -> Any:
    """A function that answers requests about one model."""
    return _Worker().answer


class _Worker:
    def __init__(self) -> None:
        import onnx  # noqa: F401 - imported before the clock runs
        import onnxruntime  # noqa: F401

        self.model: Any = None
        self.path = Path()
        self.session: Any = None
        self.returns_memory = False
        self.named: dict[str, str] = {}

    def answer(self, message: Message) -> Message:
        facts, arrays = message
        if facts["do"] == "read":
            return self.read(Path(facts["path"])), {}
        if facts["do"] == "find":
            graph = self.model.graph
            there = {name for node in graph.node for name in node.output}
            there |= {v.name for v in (*graph.input, *graph.initializer)}
            return {"missing": [name for name in facts["names"] if name not in there]}, {}
        if facts["do"] == "start":
            return self.start(facts["show"], facts["fired"]), {}
        return {}, self.run(facts["wanted"], arrays)

    def read(self, path: Path) -> dict[str, Any]:
        import onnx

        self.path, self.model = path, onnx.load(str(path), load_external_data=False)
        _check(self.model, path)
        return {
            "properties": {p.key: p.value for p in self.model.metadata_props},
            "outputs": [o.name for o in self.model.graph.output],
        }

    def start(self, show: list[str], fired: list[str]) -> dict[str, Any]:
        import onnx

        shown = {o.name for o in self.model.graph.output}
        self.model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in show if n not in shown)
        found = _flags(self.model.graph)
        for name in fired:
            if name not in found:
                found[name] = f"{name} fired"
                cast = onnx.helper.make_node("Cast", [name], [found[name]], to=onnx.TensorProto.BOOL)
                self.model.graph.node.append(cast)
            self.model.graph.output.append(onnx.ValueInfoProto(name=found[name]))
        self.returns_memory = bool(fired)
        self.named = {name: found[name] for name in fired}
        self.session = None  # one of another model, or with other outputs
        session = self.open()
        return {"inputs": [[i.name, list(i.shape)] for i in session.get_inputs()]}

    def open(self) -> Any:
        if self.session is None:
            return_memory()
            self.session = open_session(self.model, weights=self.path.parent)
        return self.session

    def run(self, wanted: list[str], arrays: Mapping[str, NDArray[Any]]) -> Results:
        names = [self.named.get(name, name) for name in wanted]
        values: list[Any] = list(map(np.asarray, self.open().run(names, dict(arrays))))
        if self.returns_memory and sum(v.nbytes for v in values) > _MUCH:
            # They lie in the session's memory, which is freed with it.
            values = [_Packed(values.pop(0)) for _ in wanted]
            self.session = None
            return_memory()
        return Results(dict(zip(wanted, values, strict=True)))


class _Packed:
    """A copy of an array, with booleans packed as bits."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._shape, self._flags = values.shape, values.dtype == np.bool_
        self._data = np.packbits(values) if self._flags else values.copy()
        self.nbytes = self._data.nbytes

    @property
    def array(self) -> NDArray[Any]:
        if not self._flags:
            return self._data
        bits = np.unpackbits(self._data, count=math.prod(self._shape))
        return bits.view(np.bool_).reshape(self._shape)


def return_memory() -> None:
    """Return freed memory to the system, where the C library (glibc) would keep it for later."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _flags(graph: Any) -> dict[str, str]:
    """For each value cast from the booleans of comparisons, or of several concatenated, the name of those booleans."""
    flags: set[str] = set()
    found: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in ("Greater", "GreaterOrEqual") or (
            node.op_type == "Concat" and flags.issuperset(node.input)
        ):
            flags.update(node.output)
        elif node.op_type == "Cast" and flags.issuperset(node.input):
            found[node.output[0]] = node.input[0]
    return found


def open_session(model: Any, *, weights: Path | None = None) -> Any:
    """A session of onnxruntime, in this process, on as many threads as the process may use.

    Args:
        model: An `onnx.ModelProto`.
        weights: The folder of weights that are stored outside the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised, so nothing need be logged
    options.intra_op_num_threads = available_cores()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads sleep
    if weights is not None:
        options.add_session_config_entry(_DATA_FOLDER, str(weights))
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


_MUCH = 2**24
"""Bytes of results beyond which a session ends after its run: it keeps the memory of all values, and reopening takes 0.1 s."""

_DATA_FOLDER = "session.model_external_initializers_file_folder_path"
"""onnxruntime's option for the folder of external weights when the model is given as bytes."""


def _check(model: Any, path: Path) -> None:
    """Cheap checks of a model before anything is computed.

    Raises:
        FileFormatError: If no export looks like this.
    """

    def refuse(reason: str) -> FileFormatError:
        return FileFormatError(reason, where=str(path), hint="no export of tcja-deploy holds that")

    graph = model.graph
    if not graph.output:
        raise refuse("this is not a readable ONNX model (it has no output)")
    if len(model.functions) or len(graph.sparse_initializer):
        raise refuse("this model holds functions or sparse weights")
    if len(graph.node) > _MOST_NODES:
        raise refuse(f"this model has {len(graph.node):,} nodes")
    tensors = list(graph.initializer)
    strange = set()
    for node in graph.node:
        if node.op_type not in _OPS or node.domain not in ("", "ai.onnx"):
            strange.add(f"{node.domain}.{node.op_type}"[:60].removeprefix("."))
        for attribute in node.attribute:
            if attribute.HasField("g") or len(attribute.graphs) or len(attribute.sparse_tensors):
                strange.add(f"a graph inside {node.op_type}"[:60])
            if attribute.HasField("t"):
                tensors.append(attribute.t)
    if strange:
        raise refuse(f"this model holds {', '.join(sorted(strange)[:8])}")
    for tensor in tensors:
        _check_tensor(tensor, path, refuse)


def _check_tensor(tensor: Any, path: Path, refuse: Any) -> None:
    """Check that a tensor has as many bytes as its shape says, in the model or in a file beside it."""
    import onnx

    name = tensor.name[:60]
    if any(d < 0 for d in tensor.dims) or tensor.data_type in (
        onnx.TensorProto.UNDEFINED,
        onnx.TensorProto.STRING,
    ):
        raise refuse(f"the weights {name!r} are not numbers")
    count = math.prod(tensor.dims)
    try:
        bits = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * 8
    except (KeyError, ValueError, TypeError) as error:
        raise refuse(f"the weights {name!r} are of an unknown type") from error
    size = count * bits // 8
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        about = {entry.key: entry.value for entry in tensor.external_data}
        location = about.get("location", "")
        if not location or Path(location).name != location or location in (".", ".."):
            raise refuse(f"the weights {name!r} lie outside of the model's folder")
        file = path.parent / location
        if file.is_symlink() or path_status(file) != "file":
            raise refuse(f"the file {location[:60]!r} with weights is not there")
        begin, length = (about.get(key, "0") for key in ("offset", "length"))
        if not all(text.isascii() and text.isdigit() and len(text) < 20 for text in (begin, length)):
            raise refuse(f"the place of the weights {name!r} is not a number")
        if int(length) not in (0, size) or int(begin) + size > file.stat().st_size:
            raise refuse(f"the weights {name!r} are not where the model says")
        return
    fields = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
    held = max(len(getattr(tensor, field)) for field in fields)
    if (tensor.HasField("raw_data") and len(tensor.raw_data) != size) or (
        not tensor.HasField("raw_data") and held < (count if bits >= 8 else 0)
    ):
        raise refuse(f"the weights {name!r} claim {size:,} bytes and have others")
