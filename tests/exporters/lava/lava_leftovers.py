"""What Lava runs have not cleaned up."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["leftovers"]


def leftovers(pid: int | None = None) -> set[str]:
    """Shared memory and processes of the runs that a process started (this one if not given)."""
    name = f"tcja{os.getpid() if pid is None else pid:x}x"
    found = {entry.name for entry in Path("/dev/shm").glob(f"{name}*")}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
                zombie = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
            except OSError:
                continue
            if name in command and not zombie:
                found.add(f"process {entry.name}")
    return found
