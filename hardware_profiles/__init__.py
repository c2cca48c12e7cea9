"""Energy prices and capacity limits of chips, one TOML file each, with the source of every number."""

from .loader import check_profile, list_profiles, load_profile
from .profile import Pricing, Profile, Term
from .quantity import Bounds, Limits, Quantity, Source, Timing
from .vocabulary import (
    OP_CLASSES,
    Bound,
    Certainty,
    ChipKind,
    Coverage,
    Evidence,
    Nominal,
    OpClass,
    OpGroup,
    Precision,
    Scope,
    Unit,
)

__all__ = [
    "OP_CLASSES",
    "Bound",
    "Bounds",
    "Certainty",
    "ChipKind",
    "Coverage",
    "Evidence",
    "Limits",
    "Nominal",
    "OpClass",
    "OpGroup",
    "Precision",
    "Pricing",
    "Profile",
    "Quantity",
    "Scope",
    "Source",
    "Term",
    "Timing",
    "Unit",
    "check_profile",
    "list_profiles",
    "load_profile",
]
