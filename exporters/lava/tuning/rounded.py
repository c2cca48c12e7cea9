"""A trainable float network that computes with rounded weights: straight-through rounding, surrogate gradients.

In the forward pass the weights are those of the integer network: `step * floor(w / step + 1/2)` with the exporter's own
steps; spikes are 0 or 1, gates are multiples of 2**-bits. In the backward pass rounding is the identity (Bengio et al.,
arXiv 1308.3432), a spike has the slope of an arctangent around the threshold, and resets have no gradient, as in
SpikingJelly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcja_deploy.ir import Graph
from tcja_deploy.ir import ops as ir
from tcja_deploy.passes import fold_batch_norm
from tcja_deploy.passes.fold import foldable
from tcja_deploy.runtime.membranes import charge
from tcja_deploy.runtime.sequence import evaluate, tcja_gate, weigh

__all__ = ["RoundedNetwork"]

_SLOPE = 2.0
"""Steepness of the arctangent, in thresholds; SpikingJelly's default."""

Weighted = ir.Conv2d | ir.ConvTranspose2d | ir.Linear


class RoundedNetwork:
    """The weights of a graph as leaves of autograd, and the graph computed with these weights rounded.

    Layers whose weights are the same array, such as those of a module used twice, share a leaf.

    Args:
        graph: The float network, batch normalisation not folded.
        gate_bits: Fraction bits of TCJA's gates.
    """

    def __init__(self, graph: Graph, gate_bits: int) -> None:
        self.graph, self.folded = graph, fold_batch_norm(graph)
        self._gate = float(1 << gate_bits)
        self._leaves: dict[bytes, Tensor] = {}
        self._leaf_of: dict[str, Tensor] = {}
        norms = {weights: norm for norm, weights in foldable(graph).items()}
        self._factors: dict[str, Tensor] = {}
        self._last = {name: node.name for node in self.folded for name in node.inputs}
        for node in graph:
            if isinstance(node.op, Weighted):
                key = node.op.weight.tobytes() + str(node.op.weight.shape).encode()
                leaf = self._leaves.setdefault(
                    key, torch.from_numpy(node.op.weight.astype(np.float32)).requires_grad_()
                )
                self._leaf_of[node.name] = leaf
                self._factors[node.name] = _factor(graph, node.name, norms.get(node.name))
        self._pruned = {id(leaf): leaf.detach() != 0 for leaf in self._leaves.values()}

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """The tensors that are trained."""
        return tuple(self._leaves.values())

    @property
    def layers(self) -> tuple[str, ...]:
        """Nodes whose weights are trained."""
        return tuple(self._leaf_of)

    @property
    def streams(self) -> bool:
        """Whether the output has a value for each frame."""
        return self.folded[self.folded.output].signal.streams

    def keep_zeros(self) -> None:
        """Reset to zero the weights that were zero at first: a pruned network stays pruned."""
        with torch.no_grad():
            for leaf in self._leaves.values():
                leaf *= self._pruned[id(leaf)]

    def trained(self) -> Graph:
        """The float network with the current weights."""
        weights = {name: leaf.detach().numpy().copy() for name, leaf in self._leaf_of.items()}
        return self.graph.with_weights(weights)

    def __call__(self, frames: Tensor, steps: Mapping[str, NDArray[np.float64]]) -> Tensor:
        """Output for a window `[T, N, ...]`.

        Args:
            frames: The window.
            steps: For each layer, the size of an integer step in its folded weights, `[1]` or `[O]`; layers without an
                entry are not rounded.
        """
        values: dict[str, Tensor] = {}
        for node in self.folded:
            inputs = [values[name] for name in node.inputs] or [frames]
            op = node.op
            if isinstance(op, Weighted):
                weight = exact = self._leaf_of[node.name] * self._factors[node.name]
                bias = None if op.bias is None else torch.from_numpy(np.array(op.bias))
                if node.name in steps:
                    weight = _rounded(exact, _along(op, torch.from_numpy(steps[node.name]).float()))
                    lost = _mean_error(op, inputs[0], exact - weight)
                    bias = lost if bias is None else bias + lost
                values[node.name] = weigh(op, inputs[0], weight, bias)
            elif isinstance(op, ir.Neuron):
                values[node.name] = _spikes(op, inputs[0])
            elif isinstance(op, ir.TCJA):
                gate = tcja_gate(op, inputs[0].permute(1, 0, 2, 3, 4).mean((3, 4)))
                values[node.name] = inputs[0] * _rounded(gate, 1 / self._gate)[..., None, None]
            else:
                values[node.name] = evaluate(op, *inputs)
            for name in node.inputs:
                if self._last[name] == node.name:
                    values.pop(name, None)
        return values[self.folded.output]


def _factor(graph: Graph, name: str, norm: str | None) -> Tensor:
    """The factor by which folding normalisation multiplies the weights of a layer, in the shape of its weights."""
    op = graph[name].op
    norm_op = None if norm is None else graph[norm].op
    if not isinstance(norm_op, ir.BatchNorm1d | ir.BatchNorm2d) or not isinstance(op, Weighted):
        return torch.ones(())
    scale, _ = norm_op.scale_offset()
    return _along(op, torch.from_numpy(np.asarray(scale, np.float64)).float())


def _along(op: Weighted, channels: Tensor) -> Tensor:
    """A value per output channel, `[O]` or `[1]`, reshaped to multiply the weights of a layer."""
    if isinstance(op, ir.ConvTranspose2d) and channels.numel() > 1:
        depth = op.weight.shape[0] // op.groups
        spread = channels.reshape(op.groups, 1, -1).expand(op.groups, depth, -1)
        return spread.reshape(op.weight.shape[0], -1, 1, 1)
    return channels.reshape(-1, *(1,) * (op.weight.ndim - 1))


def _mean_error(op: Weighted, x: Tensor, weight: Tensor) -> Tensor:
    """Mean per channel, `[O]`, of a layer's error due to rounding its weights.

    The exporter's biases compensate it (`correct_bias`). The mean of a linear map is the map of the mean frame.
    """
    with torch.no_grad():
        sums = weigh(op, x.mean((0, 1), keepdim=True), weight, None)
        return sums.reshape(sums.shape[2], -1).mean(1)


def _rounded(x: Tensor, step: Tensor | float) -> Tensor:
    """`x` rounded to multiples of a step; the gradient is that of `x`."""
    return x + (torch.floor(x / step + 0.5) * step - x).detach()


def _spikes(op: ir.Neuron, x: Tensor) -> Tensor:
    """Spikes of neurons over a window `[T, N, ...]`, with surrogate gradients."""
    v, spikes = torch.full_like(x[0], op.v_rest), []
    unit = abs(op.v_threshold) or 1.0
    for current in x:
        h = charge(op, current, v)
        fired = (h > op.v_threshold if op.strict else h >= op.v_threshold).to(h.dtype)
        slope = torch.atan((h - op.v_threshold) * (math.pi / 2 * _SLOPE / unit)) / math.pi
        spikes.append(fired + (slope - slope.detach()))
        v = h - fired * op.lowered_by if op.v_reset is None else torch.where(fired > 0, op.v_reset, h)
    return torch.stack(spikes)
