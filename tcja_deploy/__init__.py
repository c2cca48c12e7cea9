"""Take a trained TCJA-SNN to ONNX, Lava/Loihi and NIR; run it step by step; account for its energy."""

from __future__ import annotations

from pathlib import Path

# In a checkout the folders exporters, energy and hardware_profiles stand beside this one (see CONTRIBUTING.md); an installed
# package has them inside. Without this line a checkout could not be run from its own root.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file() and (_checkout / "hardware_profiles").is_dir():
    __path__.append(str(_checkout))

from tcja_deploy.api import export, load, verify  # noqa: E402
from tcja_deploy.errors import DeployError  # noqa: E402
from tcja_deploy.version import __version__  # noqa: E402

__all__ = ["DeployError", "__version__", "export", "load", "verify"]
