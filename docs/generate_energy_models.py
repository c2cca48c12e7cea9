"""SpikingJelly's energy models beside this program's counts, on one network. Running this file writes the page."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tcja_deploy as td
from tcja_deploy.energy.count.inventory import Drive, Measured
from tcja_deploy.energy.render.table import energy_text
from tcja_deploy.library.accounting import EnergyReport

PAGE = Path(__file__).resolve().parent / "energy-models.md"
T, SHAPE = 4, (2, 10, 10)


@dataclass(frozen=True)
class Count:
    """One number of another model, and this program's.

    Attributes:
        model: Who counts.
        what: What it calls it.
        theirs: Its number.
        ours: The exact synaptic operations.
        derived: Its number once more, from this program's counts by the rule in `why`.
        why: Where the difference is from.
    """

    model: str
    what: str
    theirs: int
    ours: int
    derived: int
    why: str


def network(seed: int = 0, *, kernel: int = 3, stride: int = 2) -> nn.Sequential:
    """Two convolutions and a dense layer without biases, spikes everywhere."""
    from spikingjelly.activation_based import layer, neuron

    torch.manual_seed(seed)
    pad, side = kernel // 2, (SHAPE[1] + 2 * (kernel // 2) - kernel) // stride + 1
    made = nn.Sequential(
        layer.Conv2d(2, 6, 3, padding=1, bias=False, step_mode="m"), neuron.IFNode(step_mode="m"),
        layer.Conv2d(6, 8, kernel, stride=stride, padding=pad, bias=False, step_mode="m"), neuron.IFNode(step_mode="m"),
        layer.Flatten(step_mode="m"),
        layer.Linear(8 * side * side, 5, bias=False, step_mode="m"), neuron.IFNode(step_mode="m"),
    )  # fmt: skip
    for module in made:
        if hasattr(module, "weight"):
            module.weight.data.abs_()
    return made.eval()


def spikes(seed: int = 1) -> Tensor:
    """One recording of binary frames, `[T, 1, C, H, W]`."""
    return (torch.rand(T, 1, *SHAPE, generator=torch.Generator().manual_seed(seed)) < 0.3).float()


def their_reports(net: nn.Module, x: Tensor) -> dict[str, Any]:
    """The reports of SpikingJelly's four models."""
    from spikingjelly.activation_based import functional, op_counter

    estimates: dict[str, Callable[[], Any]] = {
        "Simple": lambda: op_counter.estimate_simple_energy(net, x),
        "Lemaire": lambda: op_counter.estimate_lemaire_energy(
            net, x, config=op_counter.LemaireEnergyConfig(strict=False)
        ),
        "NeuroMC": lambda: op_counter.estimate_neuromc_runtime_energy(net, x),
        "SpikeSim": lambda: op_counter.estimate_spikesim_energy(net, x),
    }
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, estimate in estimates.items():
            functional.reset_net(net)
            found[name] = estimate()
        functional.reset_net(net)
    return found


def accumulations(net: nn.Module, x: Tensor) -> int:
    """SpikingJelly's `ACCounter` by itself: synapses and neurons."""
    from spikingjelly.activation_based import functional, op_counter

    functional.reset_net(net)
    counter = op_counter.ACCounter()
    with torch.no_grad(), op_counter.DispatchCounterMode([counter]):
        net(x)
    functional.reset_net(net)
    return int(counter.get_total())


def ours(net: nn.Module, x: Tensor) -> EnergyReport:
    """This program on the same module and frames."""
    graph = td.load(net, timesteps=T, input_shape=SHAPE, input_kind="binary")
    return td.energy(graph, x, profiles=["asic45"], progress=False)


def reconcile(net: nn.Module, x: Tensor, measured: Measured, reports: dict[str, Any]) -> list[Count]:
    """Where the counts differ, by how much and why; `derived` shows that nothing else does."""
    layers = measured.inventory.layers
    convolutions = [layer for layer in layers if layer.op == "Conv2d"]
    exact = sum(int(measured.synops(layer).total) for layer in layers)
    graph = measured.inventory.graph
    steps = graph.T * len(measured)

    def per_spike(layer: Any) -> int:
        op = graph[layer.node].op
        if layer.op != "Conv2d":
            return int(layer.shape_out[-1])
        reach = math.prod(math.ceil(k / s) for k, s in zip(op.weight.shape[2:], op.stride, strict=True))
        return int(op.weight.shape[0] // op.groups * reach)

    nonzero = {layer.node: int(measured.events(Drive(layer.source)).sum()) for layer in layers}
    positions = {layer.node: steps * math.prod(layer.shape_out[1:]) for layer in convolutions}
    alone = accumulations(net, x)
    itself = sum(n - 1 for n in positions.values())
    synop, ac = (reports["Simple"].counts[key] for key in ("synop", "ac"))
    lemaire = reports["Lemaire"].counts["synop"]
    macs = reports["NeuroMC"].primitive_counts["totals"]["mac"]
    cycles = reports["SpikeSim"].counts["dense_pe_cycle_count"]
    by_reach = sum(nonzero[layer.node] * per_spike(layer) for layer in layers)
    dense = sum(layer.macs.dense_per_inference for layer in layers) * len(measured)
    why = {
        "synop": "the same: weights met by spikes, borders and strides included",
        "ac": f"{alone - exact:,} additions of the neurons, and {itself:,} of a sum over the positions of each convolution "
        "that the counter makes itself",
        "Lemaire": "every spike meets ceil(kernel / stride) positions per axis: borders are left out, strides rounded up",
        "NeuroMC": "all multiply-accumulates of all steps, padding included, spikes or none",
        "SpikeSim": "reads of whole crossbars, one per output position and step, spikes or none; dense layers and neurons "
        "are left out",
    }
    return [
        Count("Simple", "synop", synop, exact, exact, why["synop"]),
        Count("Simple", "ac", ac, exact, alone + itself, why["ac"]),
        Count("Lemaire", "synop", lemaire, exact, by_reach, why["Lemaire"]),
        Count("NeuroMC", "mac", macs, exact, dense, why["NeuroMC"]),
        Count("SpikeSim", "PE cycles", cycles, exact, sum(positions.values()), why["SpikeSim"]),
    ]


@cache
def page() -> str:
    """The page."""
    net, x = network(), spikes()
    report = ours(net, x)
    reports = their_reports(net, x)
    rows = [
        f"| {c.model} | {c.what} | {c.theirs:,} | {c.ours:,} | {c.theirs - c.ours:+,} | {c.why} |"
        for c in reconcile(net, x, report.activity, reports)
    ]
    totals = []
    for name, found in reports.items():
        total = found.total_pj if name == "Lemaire" else found.energy_total_pj
        memory = (
            found.breakdown_pj["memory_pj"] if name == "Lemaire" else getattr(found, "energy_memory_pj", 0.0)
        )
        share = "–" if name == "SpikeSim" else f"{memory / total:.0%}"
        totals.append(f"| SpikingJelly, {name} | {energy_text(total)} | {share} | {_ABOUT[name]} |")
    for e in report.estimates:
        if e.subject == "SNN" and e.energy_pJ is not None:
            purposes = dict(e.by_purpose)
            memory = sum(v for k, v in purposes.items() if k in _MEMORY)
            label = e.convention.partition(" ")[0]
            totals.append(
                f"| this program, `{label}` | {energy_text(e.energy_pJ.mean)} | {memory / e.energy_pJ.mean:.0%} | 45 nm, fp32 |"
            )
    return _TEXT.format(rows="\n".join(rows), totals="\n".join(totals))


_MEMORY = ("weight reads", "membrane traffic", "spike traffic")
_ABOUT = {
    "Simple": "45 nm, fp32; 24.96 pJ a byte for weights and membranes, whatever the memory",
    "Lemaire": "45 nm, int32; buffers of the size of each layer, 4 bytes an access; addresses are counted",
    "NeuroMC": "32 nm, 16 bit; registers and SRAM, DRAM and network at zero as in its paper",
    "SpikeSim": "crossbars in memory; convolutions alone",
}
_TEXT = """# SpikingJelly's energy models beside these counts

SpikingJelly 2 has four more models of energy. They are not conventions here, because they count other things; this page
runs them on the same
network and the same recording, and takes every difference apart. It is written by `docs/generate_energy_models.py`; a test
derives each of
their numbers from this program's counts by the rule in the last column, on several networks, without a remainder.

The network: convolution 3x3 (2 to 6 channels, 10x10), IF, convolution 3x3 with stride 2 (6 to 8), IF, dense layer (200 to
5), IF; no biases, T = 4, binary
frames with 30 % of the pixels set.

## What they count

| model | count | its number | synaptic operations here | difference | why |
|---|---|---:|---:|---:|---|
{rows}

What follows: `Simple` may be compared with the conventions here after its memory term is set apart; its AC number is too
high by the sum that it makes itself. `Lemaire` overcounts strided and bordered convolutions. The counts of `NeuroMC`, and of
`SpikeSim` with its default configuration, do not fall when a network spikes less, so they cannot rank networks by their rates.

## What they make of it

| model | energy of this recording | memory | prices |
|---|---:|---:|---|
{totals}

The totals differ by two orders of magnitude on one and the same run, nearly all of it by what is taken for a memory access and
at which price, not by the operations. A number without its model says nothing.

`Simple` is nearest to `memory` in scope: both read a weight per operation and the membrane per update. It prices every byte
alike, `memory` by the size of the buffer ([energy](energy.md)).
"""

if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
