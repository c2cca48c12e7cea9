"""Take a trained TCJA-SNN to ONNX, Lava/Loihi and NIR; run it step by step; account for its energy."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING
from warnings import catch_warnings, simplefilter

# In a checkout the folders exporters, energy and hardware_profiles stand beside this one (see CONTRIBUTING.md); an installed
# package has them inside. Without this line a checkout could not be run from its own root.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file() and (_checkout / "hardware_profiles").is_dir():
    __path__.append(str(_checkout))

from tcja_deploy.api import load  # noqa: E402
from tcja_deploy.errors import DeployError  # noqa: E402
from tcja_deploy.version import __version__  # noqa: E402

if TYPE_CHECKING:
    from tcja_deploy.library.accounting import energy
    from tcja_deploy.library.benchmark import benchmark
    from tcja_deploy.library.comparison import compare
    from tcja_deploy.library.exporting import export, verify
    from tcja_deploy.library.firing_rates import rates
    from tcja_deploy.library.inspection import inspect
    from tcja_deploy.library.neurobench import neurobench
    from tcja_deploy.library.sources import open_data
    from tcja_deploy.library.streams import stream
    from tcja_deploy.library.tuning import tune

__all__ = [
    "DeployError",
    "__version__",
    "benchmark",
    "compare",
    "energy",
    "export",
    "inspect",
    "load",
    "neurobench",
    "open_data",
    "rates",
    "stream",
    "tune",
    "verify",
]

# They need torch and pandas, so they are imported when they are first used.
_LATER = {
    "benchmark": "tcja_deploy.library.benchmark",
    "compare": "tcja_deploy.library.comparison",
    "export": "tcja_deploy.library.exporting",
    "inspect": "tcja_deploy.library.inspection",
    "neurobench": "tcja_deploy.library.neurobench",
    "open_data": "tcja_deploy.library.sources",
    "rates": "tcja_deploy.library.firing_rates",
    "stream": "tcja_deploy.library.streams",
    "tune": "tcja_deploy.library.tuning",
    "verify": "tcja_deploy.library.exporting",
}


def __getattr__(name: str) -> object:
    if name == "energy":  # a package that can be called
        return import_module("tcja_deploy.energy")
    if name not in _LATER:
        raise AttributeError(f"module 'tcja_deploy' has no attribute {name!r}")
    with catch_warnings():
        simplefilter("ignore")  # of other packages about themselves
        globals()[name] = found = getattr(import_module(_LATER[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
