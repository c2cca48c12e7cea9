"""NVML, the energy counters of NVIDIA's GPUs, through the package `nvidia-ml-py` (`pynvml`) if it is installed.

`nvmlDeviceGetTotalEnergyConsumption` counts millijoules of the whole board since the driver was loaded (Volta and later).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from tcja_deploy.meters.counter import EnergyCounter

__all__ = ["Gpu", "find_gpus"]


@dataclass(frozen=True)
class Gpu(EnergyCounter):
    """One GPU.

    Attributes:
        source: `"NVML"`, its name and its number.
    """

    source: str
    _library: Any
    _handle: Any

    def read(self) -> int:
        """Microjoules since the driver was loaded.

        Raises:
            OSError: It cannot be read any more.
        """
        try:
            return 1000 * int(self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        except self._library.NVMLError as error:
            raise OSError(str(error)) from error


def find_gpus() -> tuple[Sequence[Gpu], str]:
    """The GPUs whose energy can be read, and why there is none or why some are missing; empty if all is well."""
    try:
        library = import_module("pynvml")
    except ImportError:
        return (), "NVML: the package nvidia-ml-py is not installed"
    try:
        library.nvmlInit()
        count = library.nvmlDeviceGetCount()
    except library.NVMLError as error:
        return (), f"NVML: {error}"
    found, refused = [], []
    for index in range(count):
        try:
            handle = library.nvmlDeviceGetHandleByIndex(index)
            name = library.nvmlDeviceGetName(handle)
            name = name.decode() if isinstance(name, bytes) else name
            gpu = Gpu(f"NVML {name} #{index}", library, handle)
            gpu.read()
        except (OSError, library.NVMLError) as error:
            refused.append(f"GPU {index} ({error})")
        else:
            found.append(gpu)
    if refused:
        return tuple(found), f"NVML: {', '.join(refused)} does not count its energy"
    return tuple(found), "" if found else "NVML: there is no GPU"
