"""Where the numbers of a report come from: versions, hashes, the command."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy

from tcja_deploy.files import sha256
from tcja_deploy.hardware_profiles import Profile
from tcja_deploy.ir import Graph
from tcja_deploy.text import printable
from tcja_deploy.version import __version__, torch_version

__all__ = ["profile_facts", "provenance"]


def provenance(
    command: Sequence[str], model: Path | None = None, graph: Graph | None = None
) -> dict[str, str]:
    """Facts about a run.

    Args:
        command: The command line, as a list of words.
        model: File of the model, if there is one.
        graph: The model, if there is one.
    """
    facts = {} if model is None else {"model": printable(str(model))}
    if model is not None and model.is_file():
        facts = {"model file": printable(str(model)), "model SHA-256": sha256(model)}
    if graph is not None:
        facts |= {k: v for k, v in graph.source.items() if k.startswith(("code", "weights"))}
    return {
        **facts,
        **({} if graph is None else {"graph hash": graph.hash}),
        "tcja-deploy": __version__,
        "command": printable(shlex.join(command)),
        "Python": platform.python_version(),
        "torch": torch_version(),
        "numpy": numpy.__version__,
    }


def profile_facts(profiles: Sequence[Profile]) -> dict[str, str]:
    """Facts about the price lists used."""
    return {
        "profiles": ", ".join(f"{p.label} {p.version} (SHA-256 {p.sha256[:12]})" for p in profiles),
    }
