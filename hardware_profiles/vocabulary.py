"""The closed vocabulary of hardware profiles: units, operation classes, grades of evidence.

Every word that a profile file may use for a choice is defined here and nowhere else, so that an energy estimator can join
its counts on `OpClass` and a reader can look up every word in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

__all__ = [
    "OP_CLASSES",
    "UNITS",
    "Availability",
    "Bound",
    "Certainty",
    "ChipKind",
    "Dimension",
    "Evidence",
    "Nominal",
    "OpClass",
    "OpGroup",
    "OpInfo",
    "Precision",
    "Scope",
    "Unit",
]


class Dimension(StrEnum):
    """What a unit measures."""

    ENERGY = "energy"
    POWER = "power"
    TIME = "time"
    FREQUENCY = "frequency"
    COUNT = "count"
    INFORMATION = "information"
    RATIO = "ratio"


class Unit(StrEnum):
    """The suffixes that a quantity's key may end in, after its last underscore."""

    FJ = "fJ"
    PJ = "pJ"
    NJ = "nJ"
    UJ = "uJ"
    MJ = "mJ"
    UW = "uW"
    MW = "mW"
    W = "W"
    NS = "ns"
    US = "us"
    MS = "ms"
    MHZ = "MHz"
    COUNT = "count"
    PX = "px"
    BIT = "bit"
    KIB = "KiB"
    PERCENT = "percent"


UNITS: Mapping[Unit, tuple[Dimension, int]] = MappingProxyType(
    {
        Unit.FJ: (Dimension.ENERGY, -15),
        Unit.PJ: (Dimension.ENERGY, -12),
        Unit.NJ: (Dimension.ENERGY, -9),
        Unit.UJ: (Dimension.ENERGY, -6),
        Unit.MJ: (Dimension.ENERGY, -3),
        Unit.UW: (Dimension.POWER, -6),
        Unit.MW: (Dimension.POWER, -3),
        Unit.W: (Dimension.POWER, 0),
        Unit.NS: (Dimension.TIME, -9),
        Unit.US: (Dimension.TIME, -6),
        Unit.MS: (Dimension.TIME, -3),
        Unit.MHZ: (Dimension.FREQUENCY, 6),
        Unit.COUNT: (Dimension.COUNT, 0),
        Unit.PX: (Dimension.COUNT, 0),
        Unit.BIT: (Dimension.INFORMATION, 0),
        Unit.KIB: (Dimension.INFORMATION, 0),
        Unit.PERCENT: (Dimension.RATIO, 0),
    }
)
"""Dimension and power of ten of each unit; only energies, powers and times are ever converted."""


class OpGroup(StrEnum):
    """Families of operation classes; they determine what may be listed together with an all-in energy."""

    ARITHMETIC = "arithmetic"
    SYNAPTIC = "synaptic"
    NEURON = "neuron"
    SPIKE = "spike"
    TRAFFIC = "traffic"
    MEMORY = "memory"
    STATIC = "static"


class OpClass(StrEnum):
    """What a profile can price. `OP_CLASSES` holds the group, the unit and the definition of each."""

    AC = "ac"
    MAC = "mac"
    MULTIPLY = "multiply"
    COMPARE = "compare"
    SYNOP = "synop"
    SYNOP_GRADED = "synop_graded"
    NEURON_UPDATE = "neuron_update"
    NEURON_UPDATE_INACTIVE = "neuron_update_inactive"
    SPIKE_OUT = "spike_out"
    AXON_OUT = "axon_out"
    SPIKE_IN_TILE = "spike_in_tile"
    HOP = "hop"
    MOVE_SPARSE = "move_sparse"
    MOVE_DENSE = "move_dense"
    SRAM_READ = "sram_read"
    DRAM_READ = "dram_read"
    STATIC = "static"
    CLOCK_CYCLE = "clock_cycle"


@dataclass(frozen=True, slots=True)
class OpInfo:
    """Definition of one operation class.

    Attributes:
        group: Family, see `OpGroup`.
        meaning: What counts as one operation.
        unit: Unit in which `Term.price` is given: pJ, or mW for power.
        needs_word: Whether a price must state its number of bits (`word_bit`).
        needs_size: Whether the key must name a memory size (`sram_read_8KiB_pJ`).
    """

    group: OpGroup
    meaning: str
    unit: Unit = Unit.PJ
    needs_word: bool = False
    needs_size: bool = False


OP_CLASSES: Mapping[OpClass, OpInfo] = MappingProxyType(
    {
        OpClass.AC: OpInfo(
            OpGroup.ARITHMETIC,
            "one addition, subtraction or accumulation of two numbers, arithmetic alone, no memory access",
        ),
        OpClass.MAC: OpInfo(OpGroup.ARITHMETIC, "one multiplication with accumulation, arithmetic alone"),
        OpClass.MULTIPLY: OpInfo(OpGroup.ARITHMETIC, "one multiplication, arithmetic alone"),
        OpClass.COMPARE: OpInfo(OpGroup.ARITHMETIC, "one comparison of two numbers, arithmetic alone"),
        OpClass.SYNOP: OpInfo(
            OpGroup.SYNAPTIC,
            "one weight applied to one target neuron by one binary spike, with the chip's own weight access",
        ),
        OpClass.SYNOP_GRADED: OpInfo(
            OpGroup.SYNAPTIC,
            "the same by a spike that carries a payload, so that weight and payload are multiplied",
        ),
        OpClass.NEURON_UPDATE: OpInfo(
            OpGroup.NEURON,
            "one update of one neuron in one time step, of an active neuron where inactive ones have their own price",
        ),
        OpClass.NEURON_UPDATE_INACTIVE: OpInfo(
            OpGroup.NEURON, "one visit of one neuron in one time step in which it is inactive"
        ),
        OpClass.SPIKE_OUT: OpInfo(OpGroup.SPIKE, "one spike emitted by one neuron"),
        OpClass.AXON_OUT: OpInfo(OpGroup.TRAFFIC, "one spike message to one destination core"),
        OpClass.SPIKE_IN_TILE: OpInfo(OpGroup.TRAFFIC, "one spike message delivered inside its tile"),
        OpClass.HOP: OpInfo(OpGroup.TRAFFIC, "one spike message over one hop between neighbouring routers"),
        OpClass.MOVE_SPARSE: OpInfo(
            OpGroup.TRAFFIC, "one word of event-driven traffic over one hop", needs_word=True
        ),
        OpClass.MOVE_DENSE: OpInfo(
            OpGroup.TRAFFIC, "one word of dense traffic over one hop", needs_word=True
        ),
        OpClass.SRAM_READ: OpInfo(
            OpGroup.MEMORY,
            "one word read from an SRAM of the size in the key",
            needs_word=True,
            needs_size=True,
        ),
        OpClass.DRAM_READ: OpInfo(OpGroup.MEMORY, "one word read from DRAM", needs_word=True),
        OpClass.STATIC: OpInfo(
            OpGroup.STATIC, "power of one chip that is switched on, whatever its activity", unit=Unit.MW
        ),
        OpClass.CLOCK_CYCLE: OpInfo(
            OpGroup.STATIC,
            "one cycle of the chip's clock, whatever its activity (1 uW/MHz is 1 pJ per cycle)",
        ),
    }
)


class Scope(StrEnum):
    """What the energies of one price list include.

    `ALL_IN` energies are total power divided by an event rate: they include static power, neurons, memory and traffic, so
    no such terms may be listed with them. `MARGINAL` energies are those of the operation alone.
    """

    ALL_IN = "all-in"
    MARGINAL = "marginal"


class Evidence(StrEnum):
    """How a number was obtained."""

    MEASURED = "measured"
    FITTED = "fitted"
    SIMULATED = "simulated"
    VENDOR = "vendor"
    DERIVED = "derived"
    INHERITED = "inherited"
    UNKNOWN = "unknown"

    @property
    def meaning(self) -> str:
        """One-line definition."""
        return _EVIDENCE[self]


_EVIDENCE: Mapping[Evidence, str] = MappingProxyType(
    {
        Evidence.MEASURED: "measured on the chip",
        Evidence.FITTED: "parameter of a model that was fitted to measurements of the chip",
        Evidence.SIMULATED: "circuit simulation, synthesis or a technology estimate, before silicon",
        Evidence.VENDOR: "stated by the maker, without a measurement",
        Evidence.DERIVED: "computed from other published numbers, or quoted by a second source "
        "without its method; the note says how",
        Evidence.INHERITED: "the number of another chip, named in `inherited_from`",
        Evidence.UNKNOWN: "not published; there is no value",
    }
)


class Certainty(StrEnum):
    """How certain the transcription is, from A to D; a minus sign lowers it by half a grade.

    A: primary source, table seen or cross-checked. B: primary source through one good secondary source. C: secondary or
    derived. D: a manufacturer's claim.
    """

    A = "A"
    B = "B"
    B_MINUS = "B-"
    C = "C"
    C_MINUS = "C-"
    D = "D"


class Bound(StrEnum):
    """The true number is at least (`LOWER`) or at most (`UPPER`) the published one."""

    LOWER = "lower"
    UPPER = "upper"


class Nominal(StrEnum):
    """Where the nominal value of a quantity comes from.

    `STATED` in the file; `MIDPOINT`, the geometric mean of a published range without a nominal value;
    `MISSING`.
    """

    STATED = "stated"
    MIDPOINT = "midpoint"
    MISSING = "missing"


class Precision(StrEnum):
    """Number format of the arithmetic of a price list; `NATIVE` is the chip's own format."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT32 = "int32"
    INT8 = "int8"
    NATIVE = "native"


class ChipKind(StrEnum):
    """`ASIC`: arithmetic of a technology node. `NEUROMORPHIC`: a spiking chip. `PROCESSOR`: CPU or GPU."""

    ASIC = "asic"
    NEUROMORPHIC = "neuromorphic"
    PROCESSOR = "processor"


class Availability(StrEnum):
    """What a price list says about an operation class.

    `PRICED`: there is a value. `INCLUDED`: it is included in another term, and adding it would count it twice. `UNKNOWN`:
    the list mentions it and says that no value is published. `ABSENT`: the list does not mention it.
    """

    PRICED = "priced"
    INCLUDED = "included"
    UNKNOWN = "unknown"
    ABSENT = "absent"
