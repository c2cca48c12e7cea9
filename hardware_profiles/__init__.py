"""Energy prices and capacity limits of chips, one TOML file each, with the source of every number."""

from tcja_deploy.hardware_profiles.loader import check_profile, list_profiles, load_profile
from tcja_deploy.hardware_profiles.profile import Pricing, Profile, Term
from tcja_deploy.hardware_profiles.quantity import Bounds, ChipLimits, ChipTiming, Quantity, Source
from tcja_deploy.hardware_profiles.vocabulary import (
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
