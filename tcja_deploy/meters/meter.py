"""Measuring what runs: counters read before and after, and in between often enough that none wraps around unseen."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tcja_deploy.meters.counter import EnergyCounter, joules_between
from tcja_deploy.meters.nvml import find_gpus
from tcja_deploy.meters.powercap import POWERCAP, find_zones

__all__ = ["Energy", "Meter", "NoMeter", "find_meters", "idle_power"]

_OFTEN = 5.0
"""Seconds between two readings: a counter of 65 kJ, the smallest there is, wraps around after 130 s at 500 W."""


@dataclass(frozen=True)
class NoMeter:
    """A machine without a counter that can be read.

    Attributes:
        reason: Why there is none.
    """

    reason: str


@dataclass
class Energy:
    """What was measured.

    Attributes:
        joules: Joules by source; a source that failed while it was measured is left out.
        seconds: How long was measured.
        failures: Why a source failed, by source.
    """

    joules: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Meter:
    """Counters of this machine.

    Attributes:
        counters: The counters; no energy is in two of them.
        missing: Counters that the machine may have besides, and why they cannot be read.
    """

    counters: tuple[EnergyCounter, ...]
    missing: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """What is measured."""
        return tuple(counter.source for counter in self.counters)

    @contextmanager
    def measuring(self, into: Energy, *, often: float = _OFTEN) -> Iterator[None]:
        """Measure what runs within the context, and add it to `into`.

        The counters are those of whole processors and boards, so they include whatever else runs there.

        Args:
            into: Receives joules and seconds.
            often: Seconds between two readings.
        """
        readings = _Readings(self.counters, into)
        over = threading.Event()

        def watch() -> None:
            while not over.wait(often):
                readings.take()

        watcher = threading.Thread(target=watch, name="meter", daemon=True)
        start = time.perf_counter()
        readings.take()
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            readings.take()
            into.seconds += time.perf_counter() - start


class _Readings:
    """The last readings of the counters; each further reading adds what was counted since."""

    def __init__(self, counters: Sequence[EnergyCounter], into: Energy) -> None:
        self._counters, self._into = counters, into
        self._last: dict[str, int] = {}

    def take(self) -> None:
        for counter in self._counters:
            source = counter.source
            if source in self._into.failures:
                continue
            try:
                now = counter.read()
                if source in self._last:
                    spent = joules_between(self._last[source], now, counter.wraps_at)
                    self._into.joules[source] = self._into.joules.get(source, 0.0) + spent
                self._last[source] = now
            except OSError as error:
                self._into.failures[source] = str(error.strerror or error)
                self._into.joules.pop(source, None)


def idle_power(meter: Meter, seconds: float = 1.0) -> Mapping[str, float]:
    """Watts by source while this program waits: the part of a measurement that is not due to the work."""
    found = Energy()
    with meter.measuring(found):
        time.sleep(seconds)
    return {source: joules / found.seconds for source, joules in found.joules.items()}


def find_meters(powercap: Path = POWERCAP) -> Meter | NoMeter:
    """The meter of this machine.

    Args:
        powercap: Folder in which Linux shows RAPL.
    """
    (zones, no_rapl), (gpus, no_nvml) = find_zones(powercap), find_gpus()
    missing = tuple(why for why in (no_rapl, no_nvml) if why)
    if not zones and not gpus:
        return NoMeter("; ".join(missing))
    return Meter((*zones, *gpus), missing)
