"""The ops of the IR, by family."""

from __future__ import annotations

from tcja_deploy.ir.op import Op
from tcja_deploy.ir.ops.integrator import LI, AffineIntegrator
from tcja_deploy.ir.ops.neuron import IF, LIF, PLIF, AffineNeuron, Neuron
from tcja_deploy.ir.ops.norm import BatchNorm1d, BatchNorm2d
from tcja_deploy.ir.ops.part import LARGEST, Clamp, Slice
from tcja_deploy.ir.ops.pool import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from tcja_deploy.ir.ops.recurrence import Recurrence
from tcja_deploy.ir.ops.synapse import Conv1d, Conv2d, ConvTranspose2d, Linear
from tcja_deploy.ir.ops.tcja import TCJA, same_padding
from tcja_deploy.ir.ops.tensor import (
    Add,
    Affine,
    Concat,
    Flatten,
    Input,
    Mul,
    Permute,
    Reduce,
    ReLU,
    Reshape,
    Sigmoid,
    TimeMean,
    Vote,
)

OPS: dict[str, type[Op]] = {
    op.__name__: op
    for op in (
        Add, Affine, AffineIntegrator, AffineNeuron,
        AdaptiveAvgPool2d, AvgPool2d, BatchNorm1d, BatchNorm2d, Clamp, Concat, Conv1d, Conv2d, ConvTranspose2d,
        Flatten, IF, Input, LI, LIF, Linear, MaxPool2d, Mul, PLIF, Permute, ReLU, Recurrence, Reduce, Reshape, Sigmoid, Slice,
        TCJA, TimeMean, Vote,
    )
}  # fmt: skip
"""Every op by name, as the `.tcja` file spells it."""

__all__ = [
    "IF",
    "LARGEST",
    "LI",
    "LIF",
    "OPS",
    "PLIF",
    "TCJA",
    "AdaptiveAvgPool2d",
    "Add",
    "Affine",
    "AffineIntegrator",
    "AffineNeuron",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Clamp",
    "Concat",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "Flatten",
    "Input",
    "Linear",
    "MaxPool2d",
    "Mul",
    "Neuron",
    "Permute",
    "ReLU",
    "Recurrence",
    "Reduce",
    "Reshape",
    "Sigmoid",
    "Slice",
    "TimeMean",
    "Vote",
    "same_padding",
]
