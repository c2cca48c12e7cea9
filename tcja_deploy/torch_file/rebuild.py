"""What named functions and classes in a pickle make: tensors of PyTorch, arrays of NumPy, containers. All else stays inert."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tcja_deploy.errors import FileFormatError
from tcja_deploy.torch_file.machine import Foreign, Name, ObjectBuilder, label, plain_key
from tcja_deploy.torch_file.tensors import (
    READABLE,
    Allowance,
    AnyArray,
    Storage,
    StoredTensor,
    checked_shape,
    strided,
)

__all__ = ["builders"]

_CODES = {np.dtype(code).str.lstrip("<|>="): name for name, code in READABLE.items() if name != "bfloat16"}
"""PyTorch's names by NumPy's codes."""


class _NumpyType:
    """A dtype of NumPy as a pickle describes it."""

    def __init__(self, code: str) -> None:
        self.code, self.order = code.lstrip("<|>="), "<"

    def set_state(self, state: Any) -> None:
        self.order = ">" if state[1] == ">" else "<"


class _NumpyArray(StoredTensor):
    """An array of NumPy; its content comes after its name."""

    def __init__(self, allowance: Allowance) -> None:
        super().__init__("object", (), obstacle="it is an array of Python objects")
        self._allowance = allowance

    def set_state(self, state: Any) -> None:
        _, shape, kind, column_major, content = state
        self.fill(checked_shape(shape), kind, bool(column_major), content)

    def fill(self, shape: tuple[int, ...], kind: Any, column_major: bool, content: Any) -> None:
        """Take shape and numbers.

        Raises:
            FileFormatError: If there are fewer numbers than the shape asks for.
        """
        if not isinstance(kind, _NumpyType) or kind.code not in _CODES:
            return
        if not isinstance(content, bytes | bytearray):
            raise FileFormatError("an array of NumPy has no content")
        data = bytes(content)
        item = np.dtype(kind.code).itemsize
        steps = [item] * len(shape)
        for axis in range(1, len(shape)) if column_major else reversed(range(len(shape) - 1)):
            inner = axis - 1 if column_major else axis + 1
            steps[axis] = steps[inner] * max(1, shape[inner])
        view = strided(
            self._allowance,
            Storage(_CODES[kind.code], len(data), lambda: data, kind.order),
            0,
            shape,
            [n // item for n in steps],
        )
        super().__init__(view.dtype, view.shape, view.array)


def builders(allowance: Allowance, embedded: Callable[[bytes], Any]) -> dict[str, ObjectBuilder]:
    """Builders by the names that PyTorch, NumPy and Python write.

    Args:
        allowance: The bytes that the file's tensors may take.
        embedded: Reads a file of PyTorch inside a pickle: what `pickle.dump` makes of a tensor.
    """

    def tensor(storage: Any, offset: int, shape: Any, stride: Any, *rest: Any) -> StoredTensor:
        bits = rest[2] if len(rest) > 2 and isinstance(rest[2], dict) else {}
        dtype = _dtype(rest[2]) if len(rest) > 2 and isinstance(rest[2], Name) else ""
        if isinstance(storage, StoredTensor):
            return storage  # a storage without content
        if not isinstance(storage, Storage):
            raise FileFormatError("a tensor has no storage")
        view = strided(allowance, storage, offset, shape, stride, dtype=dtype, negated=bool(bits.get("neg")))
        if bits.get("conj"):
            view.obstacle = "its elements are complex numbers, conjugated"
        return view

    def array(*_: Any) -> StoredTensor:
        return _NumpyArray(allowance)

    def from_buffer(content: Any, kind: Any, shape: Any, order: Any = "C", *_: Any) -> StoredTensor:
        made = _NumpyArray(allowance)
        made.fill(checked_shape(shape), kind, order == "F", content)
        return made

    def scalar(kind: Any, content: Any = b"", *_: Any) -> Any:
        data = bytes(content) if isinstance(content, bytes | bytearray) else b""
        if not isinstance(kind, _NumpyType) or kind.code not in _CODES:
            return Foreign("numpy.generic", (kind, content))
        return np.frombuffer(data, np.dtype(kind.order + kind.code), 1)[0].item()

    def encoded(text: str, _: str = "latin1", *__: Any) -> bytes:
        allowance.take(len(text), "a string")
        return text.encode("latin1")

    def sparse(layout: Any, parts: Any, *_: Any) -> StoredTensor:
        return _sparse(allowance, label(layout), *parts)

    numpy_names = ("numpy.core", "numpy._core")
    return {
        "torch._utils._rebuild_tensor": lambda a: tensor(*a),
        "torch._utils._rebuild_tensor_v2": lambda a: tensor(*a),
        "torch._utils._rebuild_tensor_v3": lambda a: tensor(*a[:4], None, None, a[6]),
        "torch._utils._rebuild_parameter": lambda a: a[0],
        "torch._utils._rebuild_parameter_with_state": lambda a: a[0],
        "torch._utils._rebuild_qtensor": lambda a: StoredTensor(
            a[0].dtype, checked_shape(a[2]), obstacle=f"it is quantised ({a[0].dtype})"
        ),
        "torch._utils._rebuild_sparse_tensor": lambda a: sparse(*a),
        "torch._utils._rebuild_meta_tensor_no_storage": lambda a: StoredTensor(
            _dtype(a[0]), checked_shape(a[1]), obstacle="it is on the device 'meta', which holds no numbers"
        ),
        "torch._utils._rebuild_nested_tensor": lambda a: StoredTensor(
            a[0].dtype, (), obstacle="it is a nested tensor, of rows of different lengths"
        ),
        "torch._utils._rebuild_device_tensor_from_numpy": lambda a: a[0],
        "torch._utils._rebuild_device_tensor_from_cpu_tensor": lambda a: a[0],
        "torch._utils._rebuild_wrapper_subclass": lambda a: StoredTensor(
            _dtype(a[1]),
            checked_shape(a[2]),
            obstacle=f"it is a {label(a[0])}, whose numbers its own code makes",
        ),
        "torch._tensor._rebuild_from_type_v2": _subclass,
        "torch.serialization._get_layout": lambda a: a[0],
        "torch.storage._load_from_bytes": lambda a: embedded(a[0]),
        "torch.Size": lambda a: checked_shape(a[0]) if a else (),
        "collections.OrderedDict": lambda a: {plain_key(k): v for k, v in (a[0] if a else ())},
        "collections.defaultdict": lambda a: {},
        "builtins.dict": lambda a: {},
        "builtins.list": lambda a: [],
        "builtins.bytes": lambda a: b"" if not a else Foreign("builtins.bytes", a),
        "__builtin__.bytes": lambda a: b"" if not a else Foreign("builtins.bytes", a),
        "builtins.set": _set,
        "__builtin__.set": _set,
        "_codecs.encode": lambda a: encoded(*a),
        "numpy.dtype": lambda a: _NumpyType(a[0]),
        **{f"{n}.multiarray._reconstruct": lambda a: array(*a) for n in numpy_names},
        **{f"{n}.multiarray.scalar": lambda a: scalar(*a) for n in numpy_names},
        **{f"{n}.numeric._frombuffer": lambda a: from_buffer(*a) for n in numpy_names},
    }


def _set(arguments: tuple[Any, ...]) -> Any:
    """A set is given its elements as a list; nothing that is read from a checkpoint is in one."""
    return Foreign("builtins.set", arguments)


def _dtype(name: Any) -> str:
    return label(name).removeprefix("torch.")


def _subclass(arguments: tuple[Any, ...]) -> Any:
    """A tensor of a class of its own, from the function that makes the plain one."""
    function, kind, given, *_ = arguments
    plain = label(function) in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter")
    made = next((a for a in given if isinstance(a, StoredTensor)), None)
    dtype = next((a.dtype for a in given if isinstance(a, Storage)), "unknown")
    if plain and made is not None:
        return made
    return StoredTensor(dtype, (), obstacle=f"it is a {label(kind)}, whose numbers its own code makes")


def _sparse(allowance: Allowance, layout: str, *parts: Any) -> StoredTensor:
    """A sparse tensor, written out with its zeros.

    Raises:
        FileFormatError: If its parts do not fit each other; when it is read, if an index lies outside.
    """
    if layout == "torch.sparse_coo":
        indices, values, shape = parts[:3]
    elif layout in ("torch.sparse_csr", "torch.sparse_csc"):
        start, across, values, shape = parts[:4]
    else:
        dtype = next((p.dtype for p in reversed(parts) if isinstance(p, StoredTensor)), "unknown")
        return StoredTensor(dtype, (), obstacle=f"it is sparse in blocks ({layout})")
    lengths = checked_shape(shape)

    def places() -> AnyArray:
        if layout == "torch.sparse_coo":
            return np.asarray(indices.array())
        ends = np.diff(start.array())
        if ends.ndim != 1 or (ends < 0).any() or int(ends.sum()) != values.shape[0]:
            raise FileFormatError("a sparse tensor's rows do not fit its values")
        along = np.repeat(np.arange(len(ends)), ends)
        order = (along, across.array())
        return np.stack(order if layout == "torch.sparse_csr" else order[::-1])

    def make() -> AnyArray:
        numbers = values.array()
        at = places()
        if (
            at.ndim != 2
            or at.shape[1:] != numbers.shape[:1]
            or at.shape[0] + numbers.ndim - 1 != len(lengths)
        ):
            raise FileFormatError("a sparse tensor's indices do not fit its values")
        limits = np.array(lengths[: len(at)], np.int64)[:, None]
        if numbers.shape[1:] != lengths[len(at) :] or (at < 0).any() or (at >= limits).any():
            raise FileFormatError("an index of a sparse tensor lies outside its shape")
        allowance.take(math.prod(lengths) * numbers.itemsize, f"a tensor of shape {lengths}")
        dense = np.zeros(lengths, numbers.dtype)
        np.add.at(dense, tuple(at), numbers)
        return dense

    return StoredTensor(values.dtype, lengths, make, obstacle=values.obstacle, sparse=True)
