"""The history of the benchmarks' ratios: add results, draw them.

    python benchmarks/history.py add inference.json energy_counting.json ...   # what the benchmarks wrote with --json
    python benchmarks/history.py plot docs/performance-history.png

Each line of history.jsonl is one result: date, commit, machine, benchmark, network, ratios. A ratio says how many times as
long the other side takes (or, for counts, the runs that count).
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

HISTORY = Path(__file__).with_name("history.jsonl")

RATIOS: dict[str, dict[str, tuple[str, str]]] = {
    "inference": {
        "spikingjelly / events": ("spikingjelly", "events"),
        "onnxruntime / events": ("onnxruntime", "events"),
        "sequence / events": ("sequence", "events"),
    },
    "energy_counting": {
        "counts / plain": ("counts", "plain"),
        "spikingjelly_counters / counts": ("spikingjelly_counters", "counts"),
    },
    "stream_latency": {
        "spikingjelly_step / torch": ("spikingjelly_step", "torch"),
        "spikingjelly_step / onnx": ("spikingjelly_step", "onnx"),
        "spikingjelly_step / events": ("spikingjelly_step", "events"),
    },
    "firing_rate": {"events 16 % / 2 %": ("events_0.16", "events_0.02")},
    "export_verification": {"verified / unverified": ("verified", "unverified")},
    "busy_neighbour": {"beside / alone": ("beside", "alone")},
}
"""The ratios kept of each benchmark: numerator and denominator by name."""


def add(files: list[Path]) -> None:
    with HISTORY.open("a") as history:
        for file in files:
            result: dict[str, Any] = json.loads(file.read_text())
            ratios = {
                name: round(result[a] / result[b], 3)
                for name, (a, b) in RATIOS[result["benchmark"]].items()
                if a in result and b in result
            }
            line = {
                "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
                **{key: result.get(key) for key in ("commit", "machine", "benchmark", "network")},
                "ratios": ratios,
            }
            history.write(json.dumps(line) + "\n")


def plot(path: Path) -> None:
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in HISTORY.read_text().splitlines()]
    commits = list(dict.fromkeys((line["date"], line["commit"]) for line in lines))
    series: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        i = commits.index((line["date"], line["commit"]))
        for name, ratio in line["ratios"].items():
            where = f" ({line['network']})" if line["network"] else ""
            series.setdefault(name + where, []).append((i, ratio))
    figure = Figure((8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for i, (name, points) in enumerate(series.items()):  # matplotlib has ten colours
        axes.plot(*zip(*points, strict=True), "o-" if i < 10 else "s--", label=name, markersize=4)
    axes.set_yscale("log")
    for label in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        label("{x:g}")
    axes.set_xticks(range(len(commits)), ["\n".join(commit) for commit in commits], fontsize=6)
    axes.set_ylabel("ratio")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_subparsers(dest="what", required=True)
    what.add_parser("add").add_argument("files", type=Path, nargs="+")
    what.add_parser("plot").add_argument("path", type=Path)
    args = parser.parse_args()
    if args.what == "add":
        add(args.files)
    else:
        plot(args.path)


if __name__ == "__main__":
    main()
