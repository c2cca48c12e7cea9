"""One recording frame by frame: torch, the event engine, onnxruntime with bound states, SpikingJelly, and whole windows.

    python benchmarks/stream_latency.py [--network dvs128 | --checkpoint FILE [--frames IO.npz]] [--lookahead D] [--rounds 5]
        [--threads 1] [--json stream_latency.json]

Prints the median time of a frame and of the slowest frame of a window, and the bytes that have to be kept. Weights of zoo
networks are random; frames are synthetic, or the first sample of `x` [N, T, C, H, W] of an .npz file. SpikingJelly steps the
same network without its attention, which it cannot step. All take turns, one window at a time.

Keys with --json, median seconds per frame: spikingjelly_step, torch (burst), events (burst), onnx, window (the whole window
at once, divided by T); network, threads, machine, commit.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from networks import build_network, parser
from rich.console import Console
from rich.table import Table
from spikingjelly.activation_based import functional, layer
from torch import nn
from turns import save

import tcja_deploy as td
from tcja_deploy import zoo
from tcja_deploy.ir import Graph
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.runtime.sequence import run
from tcja_deploy.runtime.stream import Stepper, initial, measure, plan, stream
from tcja_deploy.runtime.stream.event_cells import on_events
from tcja_deploy.runtime.synthetic import synthetic_frames
from tcja_deploy.zoo.modules import TCJABlock, to_module


def onnx_steps(path: Path, threads: int) -> Callable[[np.ndarray], None]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    states = {
        k: onnxruntime.OrtValue.ortvalue_from_numpy(v)
        for k, v in np.load(path.with_suffix(".states.npz")).items()
    }
    frame_input, *inputs = session.get_inputs()
    binding = session.io_binding()
    current = {i.name: states[i.name] for i in inputs}

    def push(frame: np.ndarray) -> None:
        nonlocal current
        binding.bind_cpu_input(frame_input.name, frame)
        for name, value in current.items():
            binding.bind_ortvalue_input(name, value)
        for output in session.get_outputs():
            binding.bind_output(output.name)
        session.run_with_iobinding(binding)
        current = dict(zip(current, binding.get_outputs()[3:], strict=True))

    return push


def window_times(push: Callable[[np.ndarray], object], frames: np.ndarray) -> list[float]:
    """Times of the frames of one window."""
    times = []
    for frame in frames:
        start = time.perf_counter()
        push(frame)
        times.append(time.perf_counter() - start)
    return times


def main() -> None:
    options = parser(__doc__, network="dvs128", rounds=5, threads=1)
    options.add_argument("--frames", type=Path)
    options.add_argument("--lookahead", type=int)
    args = options.parse_args()
    arch, state = build_network(args)
    graph: Graph = fold_batch_norm(zoo.to_graph(arch, state))
    frames = synthetic_frames(graph, 1)
    if args.frames:
        frames = np.ascontiguousarray(np.load(args.frames)["x"][:1].astype(np.float32).swapaxes(0, 1))
    D = args.lookahead
    burst, paced = stream(graph, lookahead=D), stream(graph, lookahead=D, schedule="paced")
    network = on_events(graph, plan(graph, lookahead=D), threads=args.threads)
    events = Stepper(network, initial(network))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step.onnx"
        td.export(graph, "onnx-step", path, lookahead=D, verify=False)
        onnx_bytes = sum(a.nbytes for a in np.load(path.with_suffix(".states.npz")).values())
        ways: dict[str, tuple[Callable[[np.ndarray], object], int]] = {
            "SpikingJelly, without attention": (spikingjelly_step(arch, state), 0),
            "torch, burst": (burst.push, held(graph, frames, D, "burst")),
            "events, burst": (events.push, held(graph, frames, D, "burst")),
            "torch, paced": (paced.push, held(graph, frames, D, "paced")),
            "onnxruntime, states bound": (onnx_steps(path, args.threads), onnx_bytes),
        }
        waits = "exact" if D is None else f"D = {D}"
        title = f"{arch.name}, T = {graph.T}, {waits}, {args.threads} thread(s)"
        columns = ("", "ms per frame", "ms, slowest", "SpikingJelly over it", "bytes kept")
        table = Table(*columns, title=title)
        windows: dict[str, list[list[float]]] = {name: [] for name in ways}
        whole = []
        for round_ in range(args.rounds + 2):  # the first two warm up
            for name, (push, _) in ways.items():
                windows[name].append(window_times(push, frames))
            if round_ > 1:
                whole.append(timed(lambda: run(graph, frames)))
        median = {name: statistics.median(map(statistics.fmean, w[2:])) for name, w in windows.items()}
        seconds = {KEYS.get(name, name): value for name, value in median.items()}
        seconds["window"] = statistics.median(whole) / graph.T
        table.add_row("whole window at once, torch", f"{1e3 * seconds['window']:.2f}", "", "", "")
        for name, (_, size) in ways.items():
            slowest = statistics.median(max(w) for w in windows[name][2:])
            ratio = seconds["spikingjelly_step"] / median[name]
            table.add_row(
                name, f"{1e3 * median[name]:.2f}", f"{1e3 * slowest:.2f}", f"{ratio:.2f}x", f"{size:,}"
            )
    Console().print(table)
    save(args.json, "stream_latency", seconds, network=arch.name, threads=args.threads)


KEYS = {
    "SpikingJelly, without attention": "spikingjelly_step",
    "torch, burst": "torch",
    "events, burst": "events",
    "onnxruntime, states bound": "onnx",
}


def spikingjelly_step(arch: zoo.Architecture, state: dict[str, np.ndarray]) -> Callable[[np.ndarray], object]:
    """SpikingJelly's own single-step mode of the same layers, except the attention."""
    net = to_module(arch, state)
    parts: list[nn.Module] = []
    for module in (*net.conv, *net.fc):
        if isinstance(module, layer.SeqToANNContainer):
            parts += module.children()
        elif isinstance(module, nn.Flatten):
            parts.append(nn.Flatten(1))
        elif not isinstance(module, TCJABlock):
            parts.append(module)
    steps = nn.Sequential(*parts)
    functional.set_step_mode(steps, "s")

    def push(frame: np.ndarray) -> object:
        with torch.inference_mode():
            return steps(torch.from_numpy(frame))

    return push


def held(graph: Graph, frames: np.ndarray, lookahead: int | None, schedule: str) -> int:
    """Bytes between two frames, at most: waiting frames, gates and membranes."""
    network = plan(graph, lookahead=lookahead, schedule=schedule)
    cost = measure(network, frames)
    other = sum(t.nbytes for cell in initial(network).cells.values() for t in cell.values())
    return other + max(s.held for s in cost.steps)


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
