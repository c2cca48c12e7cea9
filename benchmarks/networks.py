"""The network that a benchmark runs: one of the zoo with random weights, or a checkpoint's, in both forms that are compared."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tcja_deploy import zoo
from tcja_deploy.frontend.checkpoint import infer_architecture
from tcja_deploy.frontend.weights import arrays
from tcja_deploy.torch_file.read import read_weights
from tcja_deploy.zoo.architecture import Architecture


def parser(description: str | None, *, network: str, rounds: int, threads: int) -> argparse.ArgumentParser:
    """Options that these benchmarks share, with what each takes if none is given."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--network", choices=sorted(zoo.BUILDERS), default=network)
    options.add_argument("--checkpoint", type=Path)
    options.add_argument("--rounds", type=int, default=rounds)
    options.add_argument("--threads", type=int, default=threads)
    options.add_argument("--json", type=Path)
    return options


def build_network(args: argparse.Namespace) -> tuple[Architecture, dict[str, NDArray[np.float32]]]:
    """Architecture and weights, by key; torch works with the threads that were asked for from here on."""
    torch.set_num_threads(args.threads)
    arch = zoo.BUILDERS[args.network]()
    if args.checkpoint is None:
        return arch, zoo.random_state(arch)
    state, _ = arrays(read_weights(args.checkpoint)["net"])
    return infer_architecture(state)[0], state
