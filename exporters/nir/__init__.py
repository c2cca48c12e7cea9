"""NIR: the standard exchange graph of spiking networks, with the TCJA gate handled explicitly, never dropped.

Needs the extra ``nir``; without it, the first use raises ``ToolchainError``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tcja_deploy.errors import ToolchainError

if TYPE_CHECKING:
    from tcja_deploy.exporters.nir.artifact import NetworkRun, run_file, run_split, verify_nir
    from tcja_deploy.exporters.nir.export import NirReport, export_nir
    from tcja_deploy.exporters.nir.runners import RUNNERS

__all__ = ["RUNNERS", "NetworkRun", "NirReport", "export_nir", "run_file", "run_split", "verify_nir"]

_HOMES = {"NirReport": "export", "export_nir": "export", "RUNNERS": "runners"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_HOMES.get(name, 'artifact')}")
    except ModuleNotFoundError as error:
        if error.name != "nir":
            raise
        raise ToolchainError(
            "the package nir is not installed", hint="pip install 'tcja-deploy[nir]'"
        ) from error
    return getattr(module, name)
