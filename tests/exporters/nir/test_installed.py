"""Whether the tests beside this one run at all."""

from __future__ import annotations

import pytest


def test_nir_is_installed() -> None:
    nir = pytest.importorskip(
        "nir", reason="the package nir is not installed: no test of the export to NIR runs"
    )
    assert nir.version
