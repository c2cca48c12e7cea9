"""Every family of the support matrix in the real Lava: every value of every stage compared with the twin's, three windows each.

    python benchmarks/lava_families.py [KEY ...] [--stock]

The networks are those of the support matrix (`tests/families/family_nets.py`), all runs are forks of one process that has
imported Lava. Prints the table of docs/lava.md. Needs the environment of `tcja-deploy lava setup`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

import tcja_deploy as td
from tcja_deploy.exporters.lava import environment, verify

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "exporters" / "lava"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "families"))
from family_nets import FAMILIES, net
from preloaded import PreloadedLava

WINDOWS = 3


def row(key: str, *, fast: bool) -> tuple[str, int, int]:
    """One row of the table, how many values were compared, and how many differ."""
    made = net(key)
    frames = made.family.frames(WINDOWS, seed=5).numpy()
    with tempfile.TemporaryDirectory() as folder:
        td.export(made.graph, "lava", Path(folder) / "b", data=[frames])
        agreement = td.verify(Path(folder) / "b", data=[frames], fast_conv=fast)
    values, different = agreement.neuron_steps, agreement.mismatches
    speaking = sum(layer.spikes > 0 for layer in agreement.layers)
    cells = (
        made.family.title,
        f"{len(agreement.layers)} ({speaking})",
        f"{values:,}",
        str(different),
    )
    return f"| {' | '.join(cells)} |", values, different


def main() -> None:
    """Run and print; exit code 1 if a value differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("keys", nargs="*", metavar="KEY", help=", ".join(FAMILIES))
    parser.add_argument("--stock", action="store_true", help="Lava's own convolution: minutes, up to hours")
    args = parser.parse_args()
    torch.set_num_threads(1)
    values = different = 0
    print("| | stages (that send something) | values | differ |\n|---|---|---|---|", flush=True)
    with PreloadedLava(environment.lava_python()) as lava:
        verify.run_lava = lava.run
        for key in args.keys or FAMILIES:
            line, compared, wrong = row(key, fast=not args.stock)
            values, different = values + compared, different + wrong
            print(line, flush=True)
    print(f"| all | | {values:,} | {different} |")
    if different:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
