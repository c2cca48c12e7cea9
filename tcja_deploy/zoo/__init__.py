"""The paper's networks: one description each, as graph or as SpikingJelly module (`zoo.modules`)."""

from __future__ import annotations

from typing import Any

from tcja_deploy.errors import UsageError
from tcja_deploy.ir import Graph
from tcja_deploy.zoo.architecture import Architecture, random_state, to_graph
from tcja_deploy.zoo.networks import BUILDERS, cifar10dvs, dvs128, events34, fashion_mnist, ncaltech101

__all__ = [
    "BUILDERS",
    "Architecture",
    "build",
    "cifar10dvs",
    "dvs128",
    "events34",
    "fashion_mnist",
    "ncaltech101",
    "random_state",
    "to_graph",
]


def build(name: str, *, seed: int = 0, **changes: Any) -> Graph:
    """A network of the zoo with random weights (`seed`); `changes` go to its builder.

    >>> build("events34", T=8).T
    8

    Raises:
        UsageError: If there is no network of this name.
    """
    if name not in BUILDERS:
        raise UsageError(f"unknown network {name!r}", hint=f"choose one of {', '.join(BUILDERS)}")
    arch = BUILDERS[name](**changes)
    return to_graph(arch, random_state(arch, seed), {"format": "zoo", "seed": str(seed)})
