"""`python -m tests.fuzz --minutes 60`: fuzz all readers; inputs that break a promise are kept, the exit code is 1 then."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from running import everything


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--folder", type=Path, default=Path("fuzz-violations"), help="Where inputs that break are kept."
    )
    given = parser.parse_args()
    given.folder.mkdir(exist_ok=True)
    counts = everything(given.minutes, given.folder, 1_000_000 * given.seed)
    for name, count in counts.items():
        print(
            f"{name:12s} {count.read + count.refused:9,} inputs, {count.read:8,} read, slowest {count.slowest:5.2f} s"
        )
    found = [v for count in counts.values() for v in count.violations]
    total = sum(count.read + count.refused for count in counts.values())
    print(f"{total:,} inputs, {len(found)} violations")
    for violation in found[:20]:
        print(violation)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
