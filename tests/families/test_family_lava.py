"""Every family of the support matrix in the real Lava: every value of every stage, three windows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from family_nets import FAMILIES, net
from preloaded import PreloadedLava

import tcja_deploy as td
from tcja_deploy.errors import ToolchainError
from tcja_deploy.exporters.lava import environment, verify

WIDE = ("att-ms-resnet", "ms-resnet", "max-resnet", "sew-add", "sew-and", "sew-iand", "spiking-resnet")
"""Up to 512 channels: Lava's own convolution is a loop over pairs of channels."""
QUICK = "ms-resnet-tcja"


@pytest.fixture(scope="module")
def lava() -> Iterator[PreloadedLava]:
    try:
        python = environment.lava_python()
    except ToolchainError as error:
        pytest.skip(f"no Lava environment ({error.reason}); run `tcja-deploy lava setup`")
    with PreloadedLava(python) as lava:
        yield lava


@pytest.fixture(autouse=True)
def quick_lava(lava: PreloadedLava, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "run_lava", lava.run)


def compared(key: str, folder: Path, *, fast: bool) -> None:
    made = net(key)
    frames = made.family.frames(3, seed=5).numpy()
    td.export(made.graph, "lava", folder / "b", data=[frames])
    agreement = td.verify(folder / "b", data=[frames], fast_conv=fast)
    assert agreement.samples == 3
    assert agreement.mismatches == 0
    assert sum(layer.spikes for layer in agreement.layers) > 0


def test_ms_resnet_with_tcja_and_lavas_own_convolution(tmp_path: Path) -> None:
    compared(QUICK, tmp_path, fast=False)


@pytest.mark.slow
@pytest.mark.parametrize("key", [key for key in FAMILIES if key != QUICK])
def test_family(key: str, tmp_path: Path) -> None:
    compared(key, tmp_path, fast=key in WIDE)
