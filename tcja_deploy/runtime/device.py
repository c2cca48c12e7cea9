"""Where torch computes: the CPU, or a GPU set up so that its results differ from the CPU's only by the order of sums."""

from __future__ import annotations

import math
import os
import weakref
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from tcja_deploy.errors import UsageError
from tcja_deploy.ir import Graph

__all__ = ["CPU", "device_name", "in_cache", "open_device", "samples_that_fit", "tensor_on"]

CPU = torch.device("cpu")

_SHARE = 0.5
"""Share of the free memory that a batch may take, since kernels need working memory."""

_COPIES = 4
"""How many values of the largest size are held at once: input and result of a layer, membranes, flags for counting."""


def open_device(name: str) -> torch.device:
    """A device by torch's name for it, ready to compute reproducibly in whole float32.

    On a GPU, products are not rounded to TF32, and the chosen kernels give the same sums in every run.

    Raises:
        UsageError: There is no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name!r} is unknown", hint="use cpu, cuda or cuda:1") from error
    if device.type == "cpu":
        if device.index:
            raise UsageError(f"--device {name!r}: there is one CPU", hint="use cpu, cuda or cuda:1")
        return torch.device("cpu")
    if device.type != "cuda":
        raise UsageError(f"--device {name!r} is not supported", hint="use cpu, cuda or cuda:1")
    if not torch.cuda.is_available():
        built = torch.version.cuda is not None
        raise UsageError(
            "there is no GPU that torch can use",
            hint="nvidia-smi lists what there is"
            if built
            else "this torch was built for the CPU: install one for CUDA",
        )
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise UsageError(f"there is no GPU {device.index}, there are {torch.cuda.device_count()}")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    return device


def device_name(device: torch.device) -> str:
    """The name of a device for reports: the card's own name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def samples_that_fit(graph: Graph, device: torch.device) -> int:
    """How many recordings a GPU's free memory holds at once, at least 1."""
    largest = max(math.prod(node.signal.shape(graph.T, 1)) for node in graph)
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, int(free * _SHARE) // (largest * 4 * _COPIES))


_CACHED = 1 << 17
"""Float32 numbers of which a few arrays fit a core's second-level cache."""


def in_cache(x: Tensor) -> int:
    """How many elements of `x` several element-wise operations should take at a time, one after the other; all on a GPU."""
    return _CACHED * torch.get_num_threads() if x.device == CPU else max(x.numel(), 1)


_MOVED: dict[tuple[int, torch.device], Tensor] = {}
"""Weights on other devices, by the array that they are copies of; they are dropped together with it."""


def tensor_on(a: NDArray[Any], device: torch.device = CPU) -> Tensor:
    """An array as a tensor; on the CPU they share memory, unless the array is read-only, which a tensor cannot be."""
    if device == CPU:
        return torch.from_numpy(a if a.flags.writeable else a.copy())
    key = (id(a), device)
    if key not in _MOVED:
        _MOVED[key] = torch.from_numpy(a.copy()).to(device)
        weakref.finalize(a, _MOVED.pop, key, None)
    return _MOVED[key]
