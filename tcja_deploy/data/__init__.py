"""Files that ship with the package: trained weights and simulated recordings; see `README.md` here."""

from __future__ import annotations

from pathlib import Path

from tcja_deploy.errors import UsageError

__all__ = ["NAMES", "path"]

NAMES = (
    "cross_convolution_digits.tcja",
    "digits_checkpoint_max.pth",
    "digits_test_events.npz",
    "ma_snn_space_digits.tcja",
    "ms_resnet_tcja_digits.tcja",
    "nmnist_checkpoint_max.pth",
)
"""Names of the shipped files."""


def path(name: str) -> Path:
    """Path of a shipped file.

    Raises:
        UsageError: No shipped file has that name.
    """
    if name not in NAMES:
        raise UsageError(
            f"no file named {name!r} ships with tcja-deploy", hint=f"the shipped files are {', '.join(NAMES)}"
        )
    return Path(__file__).parent / name
