"""How much a command slows down beside a torch job of two threads, which this benchmark starts itself.

    python benchmarks/busy_neighbour.py [--rounds 3] [--json busy.json] -- export MODEL --target lava --data FOLDER ...

What follows -- are the arguments of tcja-deploy, which runs in an empty folder: give absolute paths. Rounds alone and rounds
beside the neighbour alternate.

Keys with --json: alone, beside (median seconds), factor; command, machine, commit.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from turns import save, show

LOAD = """
import torch
torch.set_num_threads(2)
x = torch.randn(8, 64, 96, 96)
w = torch.randn(64, 64, 3, 3)
print("ready", flush=True)
while True:
    torch.nn.functional.conv2d(x, w)
"""


def timed(command: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "tcja_deploy", *command], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        return time.perf_counter() - start


def beside(command: list[str]) -> float:
    with subprocess.Popen([sys.executable, "-c", LOAD], stdout=subprocess.PIPE, text=True) as load:
        try:
            if load.stdout is not None:
                load.stdout.readline()  # it has started
            return timed(command)
        finally:
            load.kill()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    timed(args.command)
    times: dict[str, list[float]] = {"alone": [], "beside": []}
    for _ in range(args.rounds):
        times["alone"].append(timed(args.command))
        times["beside"].append(beside(args.command))
    medians = show("tcja-deploy " + " ".join(args.command), times, "alone")
    factor = medians["beside"] / medians["alone"]
    print(f"slowdown beside a neighbour of two threads: {factor:.2f}x")
    save(args.json, "busy_neighbour", {**medians, "factor": factor}, command=args.command)


if __name__ == "__main__":
    main()
