"""What looks at the beginning of a file: files that cannot be read, fields without end, messages that are a screen."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import tcja_deploy as td
from tcja_deploy.errors import FileFormatError
from tcja_deploy.reading.beginning import first_bytes
from tcja_deploy.reading.onnx_file import onnx_metadata
from tcja_deploy.text import a_screen


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that opens and cannot be read")
def test_files_that_open_and_cannot_be_read() -> None:
    for read in (td.load, lambda path: first_bytes(path, 4)):
        with pytest.raises(FileFormatError, match="cannot be read"):
            read(Path("/proc/self/mem"))


@pytest.mark.parametrize("content", [b"\0\0", b"\x08\1", b"\x3a\2\x08\1"])
def test_fields_without_end(tmp_path: Path, content: bytes) -> None:
    """Fields without a number, numbers, and graphs of one number each, 24 MB of them."""
    (tmp_path / "x").write_bytes(content * ((24 << 20) // len(content)))
    begun = time.process_time()
    assert onnx_metadata(tmp_path / "x") is None
    assert time.process_time() - begun < 10


def test_long_messages_keep_their_end_and_send_no_escapes() -> None:
    for text in ("\x1b[2J" + "x" * 900 + "\n", "\x1b[2J\n"):
        shown = a_screen(text * 100 + "\x1b[2Jthe advice")
        assert shown.replace("\n", "").isprintable()
        assert shown.endswith("the advice")
        assert len(shown) < 6000
    assert "\x1b" not in a_screen("\n".join(["\x1b"] * 39))
