"""Random branched integer networks: residual sums, relays, logic, strides, transposed convolutions, windows, soft resets."""

from __future__ import annotations

import numpy as np

from tcja_deploy.runtime.integers.edges import AnyStage, sends
from tcja_deploy.runtime.integers.layers import LayerStage
from tcja_deploy.runtime.integers.network import HostInput, IntegerNetwork, Readout
from tcja_deploy.runtime.integers.stages import (
    HOST,
    Edge,
    NeuronStage,
    ProgramStage,
    RelayStage,
    SynapseStage,
)
from tcja_deploy.runtime.integers.window.program import Program

PEAK = 4


class Branches:
    """One random graph, grown stage by stage."""

    def __init__(self, seed: int, frames: int, edges: dict[str, Edge]) -> None:
        self.rng, self.frames, self.prefix = np.random.default_rng(seed), frames, f"g{seed}."
        self.stages: list[AnyStage] = []
        self.edges = {HOST: edges[HOST]}

    def pick(self, *kinds):
        """A value of one of some kinds, or None."""
        names = [n for n, e in self.edges.items() if e.kind in kinds and len(e.shape) == 3 and ".s" not in n]
        return names[int(self.rng.integers(len(names)))] if names else None

    def add(self, stage):
        self.edges[stage.name] = sends(stage, tuple(self.edges[n] for n in stage.inputs))
        self.stages.append(stage)
        return stage.name

    def name(self, kind):
        return f"{self.prefix}{kind}{len(self.stages)}"

    def bias(self, channels):
        return self.rng.integers(-40, 41, channels)

    def weight(self, *shape):
        return self.rng.integers(-60, 61, shape)

    def population(self, inputs, shape):
        rng, soft = self.rng, self.rng.random() < 0.3
        reach = sum(self.edges[name].peak for name in inputs)
        threshold = max(1, min(int(reach * rng.uniform(0.02, 0.15)), 300))
        reset = {"reset": "subtract", "drop": 64 * threshold + 1} if soft else {}
        decay = int(rng.choice([0, 1000, 2048, 4096]))
        return self.add(
            NeuronStage(
                self.name("n"),
                inputs,
                shape,
                self.bias(shape[0]) * threshold // 120,
                np.asarray(threshold),
                decay,
                int(rng.choice([4096, 4096, 2048])),
                **reset,
            )
        )

    def relay(self, inputs, shape):
        shift, multiplier = int(self.rng.integers(0, 5)), int(self.rng.choice([1, 1, 3, -2]))
        decay = int(self.rng.choice([0, 700])) if self.rng.random() < 0.2 else None
        return self.add(
            RelayStage(self.name("r"), inputs, shape, self.bias(shape[0]), 1.0, 11, multiplier, shift, decay)
        )

    def grow(self):
        """One more stage, or two."""
        rng, source = self.rng, self.pick("spike", "signed", "unsigned")
        shape = self.edges[source].shape
        choice = rng.choice(["conv", "layer", "sum", "sum", "logic", "transposed", "program", "neuron"])
        if choice in ("conv", "transposed") and shape[1] <= 10:
            k, stride = int(rng.integers(1, 4)), int(rng.integers(1, 3))
            out = int(rng.integers(2, 5))
            rows = (out, shape[0]) if choice == "conv" else (shape[0], out)
            odd = {"output_padding": (stride - 1,) * 2} if choice == "transposed" else {}
            synapse = SynapseStage(
                self.name("s"), (source,), choice, shape, self.weight(*rows, k, k), 1.0, (stride,) * 2,
                ((k - 1) // 2,) * 2, **odd,
            )  # fmt: skip
            self.add(synapse)
            (self.relay if rng.random() < 0.6 else self.population)((synapse.name,), synapse.out_shape)
        elif choice == "layer":
            weight = self.weight(shape[0], shape[0], 3, 3)
            self.add(
                LayerStage(
                    self.name("l"),
                    "conv",
                    shape,
                    weight,
                    self.bias(shape[0]),
                    np.asarray(150),
                    2048,
                    padding=(1, 1),
                    inputs=(source,),
                )
            )
        elif choice == "sum":
            others = [n for n, e in self.edges.items() if e.shape == shape and n != source and ".s" not in n]
            names = (source, *others[-1:])
            (self.relay if rng.random() < 0.6 else self.population)(names, shape)
        elif choice == "logic":
            others = [n for n, e in self.edges.items() if e.shape == shape and e.kind == "spike"]
            if len(others) > 1:
                zero = np.zeros(shape[0], np.int64)
                self.add(NeuronStage(self.name("and"), tuple(others[-2:]), shape, zero, np.asarray(1)))
        elif choice == "program":
            peak = self.edges[source].peak
            window = {"shape": [self.frames, *shape], "low": -peak, "high": peak}
            steps = [
                {"op": "max", "inputs": [0], "axes": [0, 2]},
                {"op": "add", "inputs": [0, 1]},
                {"op": "rescale", "inputs": [2], "factor": 3, "shift": 2},
            ]
            program = Program({"inputs": [window], "steps": steps}, {})
            self.add(ProgramStage(self.name("w"), (source,), program, 1.0))
        elif choice == "neuron":
            self.population((source,), shape)


def random_graphs(seeds, frames=4, stages=6) -> IntegerNetwork:
    """Several random graphs side by side over one input; dense synapses bring what nobody reads into one last relay."""
    shape = (2, 6, 5)
    host = HostInput(shape, False, PEAK)
    parts, loose = [], []
    for seed in seeds:
        graph = Branches(seed, frames, {HOST: Edge("signed", shape, 1, PEAK)})
        while len(graph.stages) < stages:
            graph.grow()
        parts += graph.stages
        read = {name for stage in graph.stages for name in stage.inputs}
        for stage in [s for s in graph.stages if s.name not in read]:
            inside = graph.edges[stage.name].shape
            weight = graph.weight(3, int(np.prod(inside)))
            weight[0, 0] = abs(weight[0, 0])  # the lint refuses matrices in which all are negative
            name = f"{stage.name}.dense"
            parts.append(SynapseStage(name, (stage.name,), "dense", inside, weight, 1.0))
            loose.append(name)
    parts.append(RelayStage("out", tuple(loose), (3,), np.zeros(3, np.int64), 1.0))
    return IntegerNetwork("graphs", frames, host, tuple(parts), Readout())


def random_counts(network, samples, seed=0):
    """Event counts `[T, N, ...]` within the bounds of the input."""
    rng = np.random.default_rng(seed)
    return rng.poisson(0.7, (network.frames, samples, *network.host_input.shape)).clip(0, PEAK)
