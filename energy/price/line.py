"""A priced line, and the ordinary network with which a spiking one is compared."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcja_deploy.energy.count.inventory import Primitive, Purpose
from tcja_deploy.energy.count.quantities import Ops
from tcja_deploy.energy.price.prices import Price, arithmetic, quantised_mac
from tcja_deploy.hardware_profiles import Pricing

__all__ = ["Counterpart", "Line", "total_energies"]


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """Operations of one kind at one node, and the price of each.

    Attributes:
        node: Name of the node.
        purpose: Purpose of the operations.
        what: Name of the operation in the network.
        ops: Operations per inference, one count per recording.
        price: Price of one operation.
    """

    node: str
    purpose: Purpose
    what: str
    ops: Ops
    price: Price

    def energies(self, bound: str = "value") -> NDArray[np.float64] | None:
        """Energy of each recording in pJ at the `low`, nominal (`value`) or `high` price; `None` without a price."""
        if self.price.pJ is None:
            return None
        return self.ops.per_recording() * float(getattr(self.price.pJ, bound))


@dataclass(frozen=True, slots=True)
class Counterpart:
    """The non-spiking network with which an SNN is compared: the same layers, one pass, ReLUs instead of neurons.

    Attributes:
        name: Name in reports.
        bits: Bits of its activations if they are fewer than the arithmetic has; `None` otherwise.
    """

    name: str
    bits: int | None = None

    @staticmethod
    def bit_matched(T: int) -> Counterpart:
        """The quantised network whose activations have as many levels as T steps of spikes can count, `0..T`.

        They need `ceil(log2(T + 1))` bits (Yan et al. 2024, arXiv:2409.08290).
        """
        bits = math.ceil(math.log2(T + 1))
        return Counterpart(f"QNN {bits}-bit", bits)

    def mac(self, pricing: Pricing) -> Price:
        """Price of its multiply-accumulate."""
        return arithmetic(Primitive.MAC, pricing) if self.bits is None else quantised_mac(pricing, self.bits)


def total_energies(
    energies: Iterable[NDArray[np.float64] | None], recordings: int
) -> NDArray[np.float64] | None:
    """Sum of the energies of lines in pJ, `[recordings]` each or `None` without a price; `None` if nothing is priced."""
    priced = [energy for energy in energies if energy is not None]
    return sum(priced, np.zeros(recordings)) if priced else None
