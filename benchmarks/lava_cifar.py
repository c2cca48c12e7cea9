"""MS-ResNet-18 with TCJA at CIFAR's size as a bundle: every value of every stage in the real Lava and in the twin.

    python benchmarks/lava_cifar.py [--width 64] [--windows 3] [--place output|branch]

Images of 3 x 32 x 32, four time steps, four stages of two residual blocks each, with a TCJA block in every stage. The
weights are random, with batch statistics that let spikes through: what is compared is arithmetic. Lava runs with the fast
convolution (the same integers as matrix products). Needs the environment of `tcja-deploy lava setup`, and about 3 GB of
memory at full width.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import tcja_deploy as td
from tcja_deploy.exporters.lava.bundle import read_bundle
from tcja_deploy.frontend.trace import trace
from tcja_deploy.ir import Graph, Kind
from tcja_deploy.zoo.resnet import GatePlace, ms_resnet18_tcja

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from untrained import settle

T = 4


def pictures(samples: int, seed: int) -> torch.Tensor:
    """Smooth random images `[T, N, 3, 32, 32]` in [0, 1], the same in every step."""
    coarse = torch.rand(samples, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic").clamp(0, 1)
    return fine.expand(T, *fine.shape)


def network(width: int, place: GatePlace, depths: Sequence[int] = (2, 2, 2, 2)) -> Graph:
    """The network, with the same weights whenever it is made."""
    torch.manual_seed(0)
    net = settle(ms_resnet18_tcja(T=T, width=width, place=place, depths=depths), pictures(8, 1))
    return trace(net, timesteps=T, input_shape=(3, 32, 32), input_kind=Kind.REAL)


def main() -> None:
    """Export, compare, print; exit code 1 if a value differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--width", type=int, default=64, help="channels of the first stage; the paper's is 64"
    )
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--place", choices=("output", "branch"), default="output")
    args = parser.parse_args()
    torch.set_num_threads(1)
    graph = network(args.width, args.place)
    frames = pictures(args.windows, 2).numpy()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle"
        start = time.perf_counter()
        td.export(graph, "lava", path, data=[pictures(2, 3).numpy()])
        exported = time.perf_counter() - start
        section = read_bundle(path).section
        start = time.perf_counter()
        agreement = td.verify(path, None, [frames], fast_conv=True, timeout=3600)
        verified = time.perf_counter() - start
    print(
        f"width {args.width}, gates: {args.place}; {len(section['parts'])} parts, latency {section['latency']} steps"
    )
    print(f"exported in {exported:.0f} s, twin and Lava in {verified:.0f} s; {agreement.samples} windows")
    speaking = sum(layer.spikes > 0 for layer in agreement.layers)
    print(f"{speaking} of {len(agreement.layers)} stages send something")
    print(f"{agreement.mismatches} of {agreement.neuron_steps:,} values differ")
    if agreement.mismatches:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
