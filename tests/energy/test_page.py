"""The HTML report in a real browser: every table sorts by every column, and a narrow window needs no sideways scrolling."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from energy_nets import measured, small_snn, spikes

from tcja_deploy.energy.render.documents import report_document
from tcja_deploy.energy.report.record import make_report
from tcja_deploy.hardware_profiles import load_profile

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

PROBE = """<script>
const found = {width: document.documentElement.scrollWidth, columns: []};
for (const table of document.querySelectorAll("table")) {
  [...table.querySelectorAll("th")].forEach((head, i) => {
    for (const click of [1, 2]) {
      head.click();
      found.columns.push([head.className, [...table.tBodies[0].rows].map(row => row.cells[i].dataset.v)]);
    }
  });
}
const result = document.createElement("pre");
result.id = "found";
result.textContent = JSON.stringify(found);
document.body.append(result);
</script></body>"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the browser found in a window of 400 pixels."""
    if BROWSER is None:
        pytest.skip("needs Chromium")
    m = measured(small_snn(bias=True), spikes(np.random.default_rng(0), 5, 4, 2, 8, 12))
    report = make_report(m, [load_profile(name) for name in ("asic45", "asic45-int8", "loihi1")])
    page: Path = tmp_path_factory.mktemp("page") / "page.html"
    page.write_text(report_document(report, ".html").replace("</body>", PROBE), encoding="utf-8")
    outer = page.with_name(
        "outer.html"
    )  # Chromium's own window is never narrower than 500 pixels; a frame is
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
               f"--user-data-dir={page.parent / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"]  # fmt: skip
    outer.write_text(
        f'<iframe id="f" src="{page.name}" style="width:400px;height:800px;border:0"></iframe><script>'
        'f.onload = () => document.body.append(f.contentDocument.getElementById("found"));</script>',
        encoding="utf-8",
    )
    done = subprocess.run(
        [*command, outer.as_uri()], capture_output=True, text=True, timeout=120, check=False
    )
    match = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match is not None, done.stderr[-2000:]
    read: dict[str, Any] = json.loads(html.unescape(match[1]))
    return read


def test_a_narrow_page_does_not_scroll_sideways(seen: dict[str, Any]) -> None:
    assert seen["width"] <= 400


def test_every_column_sorts_both_ways(seen: dict[str, Any]) -> None:
    numeric = 0
    for direction, values in seen["columns"]:
        assert direction.split()[-1] in ("up", "down")
        present = [v for v in values if v]
        assert values == present + [""] * (len(values) - len(present))  # what is missing stands last
        try:
            numbers = [float(v) for v in present]
        except ValueError:
            continue
        numeric += 1
        assert numbers == sorted(numbers, reverse="down" in direction)
    assert numeric > 50
