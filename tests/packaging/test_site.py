"""What the site makes of the pages: no mark-up by accident, links with names, lines broken where a reader would break them."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import pytest
from page_blocks import ROOT, pages


def prose(page: str) -> str:
    """A page without its blocks, inline code and comments."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for left_out in (r"^```.*?^```", r"^(    |# ```).*?$", r"<!--.*?-->", r"`[^`]*`"):
        text = re.sub(left_out, "", text, flags=re.DOTALL | re.MULTILINE)
    return text


READ = [page for page in pages() if page.endswith(".md")]


@pytest.mark.parametrize("page", READ)
def test_no_power_turns_bold(page: str) -> None:
    """`2**17 ... 2**15` in prose is bold type from the first to the second."""
    paragraphs = re.split(r"\n\n|\|\n", prose(page))
    assert [p for p in paragraphs if len(re.findall(r"[0-9A-Za-z]\*\*[0-9A-Za-z]", p)) > 1] == []


@pytest.mark.parametrize("page", READ)
def test_links_have_names(page: str) -> None:
    if page.startswith("docs/"):  # README and CONTRIBUTING are read as files
        assert re.findall(r"\[[\w/.-]+\.md\]\(", prose(page)) == []


@pytest.fixture(scope="module")
def shown() -> Any:
    """What a page's content becomes."""
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.on_page_content


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("<code>--target onnx</code>", '<code class=short><span class="whole">--target</span> onnx</code>'),
        (f"<code>{41 * '-'}</code>", f"<code>{41 * '-'}</code>"),
        ("<td>98 -&gt; 97</td>", '<td class="figures">98 -&gt; 97</td>'),
        ("<td>0.019 µJ</td>", '<td class="figures">0.019 µJ</td>'),
        ("<td>exact</td>", "<td>exact</td>"),
        (f'<td style="x">{9 * "words "}</td>', f'<td style="x" class="text">{9 * "words "}</td>'),
        (f"<td><code>{30 * 'a b'}</code></td>", f'<td class="command"><code>{30 * "a b"}</code></td>'),
        ("<pre><code>--target</code></pre>", "<pre><code>--target</code></pre>"),
        ('<td class="mine">1</td>', '<td class="mine">1</td>'),
    ],
)
def test_lines_break_where_a_reader_would_break_them(shown: Any, content: str, expected: str) -> None:
    assert shown(content) == expected


def test_code_that_markdown_takes_for_prose_is_told(shown: Any, caplog: pytest.LogCaptureFixture) -> None:
    shown("<pre><code>```text</code></pre><p>words</p>")
    assert not caplog.records
    shown("<p>```python run import torch</p>")
    assert [(r.levelname, r.name.partition(".")[0]) for r in caplog.records] == [("WARNING", "mkdocs")]
