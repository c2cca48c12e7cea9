"""Measuring what runs: counters read before and after, and in between often enough that none starts over unseen."""

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
"""Seconds between two readings: a counter of 65 kJ, the smallest there is, starts over after 130 s at 500 W."""


@dataclass(frozen=True)
class NoMeter:
    """There is nothing to measure with.

    Attributes:
        reason: Why.
    """

    reason: str


@dataclass
class Energy:
    """What was measured.

    Attributes:
        joules: By source; a source that failed on the way is not in it.
        seconds: While measuring.
        failures: Why a source is missing, by source.
    """

    joules: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Meter:
    """Counters of this machine.

    Attributes:
        counters: Which; each measures something of its own.
        missing: What else the machine may have, and why it cannot be read.
    """

    counters: tuple[EnergyCounter, ...]
    missing: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """What is measured."""
        return tuple(counter.source for counter in self.counters)

    @contextmanager
    def measuring(self, into: Energy, *, often: float = _OFTEN) -> Iterator[None]:
        """Measure what happens inside, and add it to `into`.

        The counters are those of whole processors and boards: whatever else runs there is in them.

        Args:
            into: Takes joules and seconds.
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
    """Counters as they were read last; each further reading adds what was counted since."""

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
    """Watts by source while this program waits: what of a measurement is not the work's."""
    found = Energy()
    with meter.measuring(found):
        time.sleep(seconds)
    return {source: joules / found.seconds for source, joules in found.joules.items()}


def find_meters(powercap: Path = POWERCAP) -> Meter | NoMeter:
    """What this machine can be measured with.

    Args:
        powercap: Where Linux shows RAPL.
    """
    (zones, no_rapl), (gpus, no_nvml) = find_zones(powercap), find_gpus()
    missing = tuple(why for why in (no_rapl, no_nvml) if why)
    if not zones and not gpus:
        return NoMeter("; ".join(missing))
    return Meter((*zones, *gpus), missing)
