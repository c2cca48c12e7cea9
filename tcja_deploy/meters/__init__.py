"""Energy meters of a machine: RAPL for its processors, NVML for its GPUs."""

from tcja_deploy.meters.meter import Energy, Meter, NoMeter, find_meters, idle_power

__all__ = ["Energy", "Meter", "NoMeter", "find_meters", "idle_power"]
