"""Meters of energy on trees of files as the kernel makes them, and on a library of NVIDIA's that answers as the real one."""

from __future__ import annotations

import os
import sys
import time
import types
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcja_deploy.meters import Energy, Meter, NoMeter, find_meters, idle_power
from tcja_deploy.meters.counter import EnergyCounter, joules_between
from tcja_deploy.meters.powercap import find_zones

RANGE = 262_143_328_850
"""`max_energy_range_uj` of a package of an ordinary server."""


def zone(root: Path, name: str, label: str, energy: int, most: int = RANGE) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{label}\n")
    (folder / "energy_uj").write_text(f"{energy}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two packages with parts, the memory beside one, the platform, and the same package over memory-mapped registers."""
    root = tmp_path / "powercap"
    zone(root, "intel-rapl:0", "package-0", 1_000_000)
    zone(root, "intel-rapl:0:0", "core", 1)
    zone(root, "intel-rapl:0:1", "uncore", 1)
    zone(root, "intel-rapl:0:2", "dram", 500_000, 65_712_999_613)
    zone(root, "intel-rapl:1", "package-1", 2_000_000)
    zone(root, "intel-rapl:2", "psys", 9)
    zone(root, "intel-rapl-mmio:0", "package-0", 1_000_000)
    (root / "intel-rapl").mkdir()
    return root


@pytest.fixture(autouse=True)
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)


def test_zones_that_add_up_and_no_other(tree: Path) -> None:
    zones, why = find_zones(tree)
    assert [z.source for z in zones] == ["RAPL package-0", "RAPL dram-0", "RAPL package-1"]
    assert why == ""


def test_joules_of_what_ran(tree: Path) -> None:
    meter, energy = find_meters(tree), Energy()
    assert isinstance(meter, Meter)
    assert meter.missing == ("NVML: the package nvidia-ml-py is not installed",)
    with meter.measuring(energy):
        (tree / "intel-rapl:0" / "energy_uj").write_text("3500000\n")
        (tree / "intel-rapl:0:2" / "energy_uj").write_text("750000\n")
    assert energy.joules == {"RAPL package-0": 2.5, "RAPL dram-0": 0.25, "RAPL package-1": 0.0}
    with meter.measuring(energy):
        (tree / "intel-rapl:0" / "energy_uj").write_text("4500000\n")
    assert energy.joules["RAPL package-0"] == 3.5  # added to what was there
    assert energy.failures == {}


def test_a_counter_that_starts_over(tree: Path) -> None:
    meter, energy = find_meters(tree), Energy()
    assert isinstance(meter, Meter)
    (tree / "intel-rapl:1" / "energy_uj").write_text(str(RANGE - 1_000_000))
    with meter.measuring(energy):
        (tree / "intel-rapl:1" / "energy_uj").write_text("2000000")
    assert energy.joules["RAPL package-1"] == pytest.approx(3.0)


@dataclass
class Fast(EnergyCounter):
    """A counter that starts over again and again, by the clock."""

    source: str = "fast"
    wraps_at: int = 40_000
    start: float = field(default_factory=time.perf_counter)

    def read(self) -> int:
        return int(1e6 * (time.perf_counter() - self.start)) % self.wraps_at


def test_one_that_starts_over_several_times_is_read_in_between() -> None:
    """A microjoule a microsecond is one watt, whatever the counter does at 40 ms."""
    energy = Energy()
    with Meter((Fast(),)).measuring(energy, often=0.005):
        time.sleep(0.3)
    # the scheduler may hold a reading up for a turn of the counter: never more joules than a watt gives, seldom fewer
    assert energy.joules["fast"] <= energy.seconds + 1e-3
    assert energy.joules["fast"] > 0.5 * energy.seconds


@given(st.integers(1, 10**15), st.data())
def test_energy_between_two_readings(wraps_at: int, data: st.DataObject) -> None:
    before = data.draw(st.integers(0, wraps_at - 1))
    spent = data.draw(st.integers(0, wraps_at - 1))
    assert joules_between(before, (before + spent) % wraps_at, wraps_at) == pytest.approx(spent / 1e6)


def test_a_counter_that_never_starts_over_and_goes_back_was_reset() -> None:
    with pytest.raises(OSError, match="reset"):
        joules_between(5, 4, 0)


def test_a_counter_that_fails_on_the_way_gives_no_number(tree: Path) -> None:
    meter, energy = find_meters(tree), Energy()
    assert isinstance(meter, Meter)
    with meter.measuring(energy):
        (tree / "intel-rapl:0" / "energy_uj").write_text("")
    assert "RAPL package-0" not in energy.joules
    assert "instead of a number" in energy.failures["RAPL package-0"]
    assert energy.joules["RAPL package-1"] == 0.0


@pytest.fixture
def unreadable(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As since Linux 5.10: only root may read. (Tests may run as root, who may read anything.)"""
    real = Path.read_text

    def read_text(self: Path, *args: object, **more: object) -> str:
        if self.name == "energy_uj":
            raise PermissionError(13, os.strerror(13), str(self))
        return real(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", read_text)
    return tree


def test_why_there_is_nothing_to_measure_with(unreadable: Path, tmp_path: Path) -> None:
    found = find_meters(unreadable)
    assert isinstance(found, NoMeter)
    assert "intel-rapl:0, intel-rapl:0:2, intel-rapl:1 cannot be read; only root may" in found.reason
    nothing = find_meters(tmp_path / "missing")
    assert isinstance(nothing, NoMeter)
    assert "no powercap" in nothing.reason
    assert "nvidia-ml-py" in nothing.reason
    (tmp_path / "empty").mkdir()
    assert find_zones(tmp_path / "empty") == ((), "RAPL: powercap names no package of a processor")


def test_what_can_be_read_is_measured_and_what_cannot_is_named(tree: Path) -> None:
    (tree / "intel-rapl:0:2" / "max_energy_range_uj").unlink()
    (tree / "intel-rapl:1" / "energy_uj").unlink()
    meter, energy = find_meters(tree), Energy()
    assert isinstance(meter, Meter)
    assert meter.sources == ("RAPL package-0",)
    assert (
        "intel-rapl:0:2 (No such file or directory), intel-rapl:1 (No such file or directory)"
        in meter.missing[0]
    )
    with meter.measuring(energy):
        (tree / "intel-rapl:0" / "energy_uj").write_text("1000001\n")
    assert energy.joules == {"RAPL package-0": pytest.approx(1e-6)}


def test_each_counter_starts_over_at_its_own_range(tree: Path) -> None:
    """That of memory is a quarter of that of its package."""
    most = int((tree / "intel-rapl:0:2" / "max_energy_range_uj").read_text())
    assert most < RANGE
    for name, top in (("intel-rapl:0", RANGE), ("intel-rapl:0:2", most)):
        (tree / name / "energy_uj").write_text(str(top - 250_000))
    meter, energy = find_meters(tree), Energy()
    assert isinstance(meter, Meter)
    with meter.measuring(energy):
        for name in ("intel-rapl:0", "intel-rapl:0:2"):
            (tree / name / "energy_uj").write_text("750000")
    assert energy.joules == {"RAPL package-0": 1.0, "RAPL dram-0": 1.0, "RAPL package-1": 0.0}


def test_power_before_the_runs(tmp_path: Path) -> None:
    zone(tmp_path / "powercap", "intel-rapl:0", "package-0", 7)
    meter = find_meters(tmp_path / "powercap")
    assert isinstance(meter, Meter)
    assert idle_power(meter, 0.01) == {"RAPL package-0": 0.0}


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The functions of `pynvml` that are used: a board that counts, and one that is too old to."""
    library = types.ModuleType("pynvml")

    class NVMLError(Exception):
        pass

    def energy(handle: int) -> int:
        if handle:
            raise NVMLError("Not Supported")
        library.millijoules += 1500  # type: ignore[attr-defined]
        return int(library.millijoules)  # type: ignore[attr-defined]

    vars(library).update(
        NVMLError=NVMLError, nvmlInit=lambda: None, nvmlDeviceGetCount=lambda: 2, nvmlDeviceGetHandleByIndex=int,
        nvmlDeviceGetName=lambda handle: b"Board", nvmlDeviceGetTotalEnergyConsumption=energy, millijoules=0,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", library)
    return library


def test_gpus(nvml: types.ModuleType, tmp_path: Path) -> None:
    meter, energy = find_meters(tmp_path / "missing"), Energy()
    assert isinstance(meter, Meter)
    assert meter.sources == ("NVML Board #0",)
    assert any("GPU 1 (Not Supported) does not count" in why for why in meter.missing)
    with meter.measuring(energy):
        pass
    assert energy.joules == {"NVML Board #0": 1.5}
    nvml.nvmlInit = lambda: (_ for _ in ()).throw(nvml.NVMLError("Driver Not Loaded"))
    found = find_meters(tmp_path / "missing")
    assert isinstance(found, NoMeter)
    assert "NVML: Driver Not Loaded" in found.reason
