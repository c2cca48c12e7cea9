"""Meters of energy that a machine has: RAPL of its processors, NVML of its GPUs."""

from tcja_deploy.meters.meter import Energy, Meter, NoMeter, find_meters, idle_power

__all__ = ["Energy", "Meter", "NoMeter", "find_meters", "idle_power"]
