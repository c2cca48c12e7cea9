"""Energy prices and capacity limits of chips, one TOML file each, with the source of every number."""

from .loader import check_profile, list_profiles, load_profile
from .profile import Pricing, Profile, Term
from .quantity import Bounds, ChipLimits, ChipTiming, Quantity, Source
from .vocabulary import (
    OP_CLASSES,
    Availability,
    Bound,
    Certainty,
    ChipKind,
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
    "Availability",
    "Bound",
    "Bounds",
    "Certainty",
    "ChipKind",
    "ChipLimits",
    "ChipTiming",
    "Evidence",
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
    "Unit",
    "check_profile",
    "list_profiles",
    "load_profile",
]
