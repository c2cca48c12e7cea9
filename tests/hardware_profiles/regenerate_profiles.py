"""Rewrites golden.json and the tables of docs/hardware-profiles.md after a deliberate edit of a profile.

    python tests/hardware_profiles/regenerate_profiles.py

Read the difference before committing it: it is the list of numbers that changed.
"""

from __future__ import annotations

import json
from pathlib import Path

from test_profile_document import PAGE, with_tables
from test_profile_values import golden_record

from tcja_deploy.hardware_profiles import list_profiles, load_profile

if __name__ == "__main__":
    records = {name: golden_record(load_profile(name)) for name in list_profiles()}
    text = json.dumps(records, indent=1, ensure_ascii=False) + "\n"
    Path(__file__).with_name("golden.json").write_text(text, encoding="utf-8")
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
