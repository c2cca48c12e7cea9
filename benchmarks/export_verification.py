"""Export with verification as a whole command: seconds, processor time and peak memory.

    python benchmarks/export_verification.py MODEL [--target onnx] [--rounds 1] [--json export.json] [-- more arguments]

Each round runs `tcja-deploy export` with verification and without, alternately, in processes of their own, and prints what each
took as soon as it ends; without data it verifies on four synthetic samples. `--warm` runs each once before, which compiles the
kernels of the event engine where the export takes it. On a busy machine processor time is what compares.

Keys with --json: verified, unverified (median seconds), processor_verified, processor_unverified (medians of user and system
time), peak_verified, peak_unverified (largest resident set, bytes); target, network, machine, commit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from turns import save, turns

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


def exported(command: list[str]) -> tuple[float, float, float]:
    """Seconds, processor time and the largest resident set (bytes) of one export."""
    before, start = os.times(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        ran = subprocess.run(
            [sys.executable, "-c", CHILD, "export", *command],
            cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    after, seconds = os.times(), time.perf_counter() - start
    processor = sum(getattr(after, k) - getattr(before, k) for k in ("children_user", "children_system"))
    return seconds, processor, 1024 * int(ran.stderr.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--target", default="onnx")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--warm", action="store_true", help="run each once before")
    parser.add_argument("--json", type=Path)
    parser.add_argument("more", nargs="*")
    args = parser.parse_args()
    command = [str(args.model.resolve()), "--target", args.target, *args.more]
    ways = {"verified": command, "unverified": [*command, "--no-verify"]}
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    for name, counts in turns(ways, args.rounds, args.warm):
        seconds, processor, peak = exported(ways[name])
        print(f"{name}: {seconds:.1f} s, processor {processor:.1f} s, peak {peak / 1e9:.2f} GB", flush=True)
        if counts:
            found[name].append((seconds, processor, peak))
    results: dict[str, float] = {}
    for name, runs in found.items():
        times, work, peaks = zip(*runs, strict=True)
        results[name] = statistics.median(times)
        results[f"processor_{name}"], results[f"peak_{name}"] = statistics.median(work), max(peaks)
    if args.rounds > 1:
        print(", ".join(f"{name} {results[name]:.1f} s" for name in ways), "(medians)")
    save(args.json, "export_verification", results, target=args.target, network=args.model.stem)


if __name__ == "__main__":
    main()
