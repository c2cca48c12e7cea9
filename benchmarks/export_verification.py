"""Export with verification as a whole command: seconds and peak memory.

    python benchmarks/export_verification.py MODEL [--target onnx] [--rounds 3] [--json export.json] [-- more arguments]

Each round runs `tcja-deploy export` with verification and without, alternately, in processes of their own; without data it
verifies on four synthetic samples. A first round, which is left out, compiles the kernels of the event engine.

Keys with --json: verified, unverified (median seconds), peak_verified, peak_unverified (largest resident set, bytes); target,
network, machine, commit.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from turns import save, show, turn_by_turn

CHILD = """
import resource, sys
from tcja_deploy.cli import main
sys.argv = ["tcja-deploy", *sys.argv[1:]]
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""
"""Linux counts the resident set in units of 1024 bytes."""


def exported(command: list[str], peaks: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ran = subprocess.run(
            [sys.executable, "-c", CHILD, "export", *command],
            cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    peaks.append(1024 * int(ran.stderr.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--target", default="onnx")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("more", nargs="*")
    args = parser.parse_args()
    command = [str(args.model.resolve()), "--target", args.target, *args.more]
    peaks: dict[str, list[int]] = {"verified": [], "unverified": []}
    times = turn_by_turn(
        {
            "verified": lambda: exported(command, peaks["verified"]),
            "unverified": lambda: exported([*command, "--no-verify"], peaks["unverified"]),
        },
        args.rounds,
    )
    medians = show(f"export of {args.model.name} to {args.target}", times, "verified")
    memory = {f"peak_{name}": max(found) for name, found in peaks.items()}
    for name, size in memory.items():
        print(f"{name}: {size / 1e9:.2f} GB")
    save(args.json, "export_verification", medians, target=args.target, network=args.model.stem, **memory)


if __name__ == "__main__":
    main()
