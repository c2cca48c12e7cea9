"""What looks at the beginning of a file: files that cannot be read, fields without end, messages that are a screen."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import tcja_deploy as td
from tcja_deploy.errors import DeployError, FileFormatError
from tcja_deploy.events.classes import read_classes
from tcja_deploy.reading.beginning import first_bytes
from tcja_deploy.reading.json_text import parse_json
from tcja_deploy.reading.onnx_file import onnx_metadata
from tcja_deploy.text import a_screen


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that opens and cannot be read")
def test_files_that_open_and_cannot_be_read() -> None:
    for read in (td.load, lambda path: first_bytes(path, 4)):
        with pytest.raises(FileFormatError, match="cannot be read"):
            read(Path("/proc/self/mem"))


@pytest.mark.parametrize("content", [b"\0\0", b"\x08\1", b"\x3a\2\x08\1"])
def test_fields_without_end(tmp_path: Path, content: bytes) -> None:
    """Fields without a number, numbers, and graphs of one number each, 6 MB of them."""
    (tmp_path / "x").write_bytes(content * ((6 << 20) // len(content)))
    begun = time.process_time()
    assert onnx_metadata(tmp_path / "x") is None
    assert time.process_time() - begun < 60


def test_long_messages_keep_their_end_and_send_no_escapes() -> None:
    for text in ("\x1b[2J" + "x" * 900 + "\n", "\x1b[2J\n"):
        shown = a_screen(text * 100 + "\x1b[2Jthe advice")
        assert shown.replace("\n", "").isprintable()
        assert shown.endswith("the advice")
        assert len(shown) < 6000
    assert "\x1b" not in a_screen("\n".join(["\x1b"] * 39))


def test_what_stands_twice_among_many_is_found_at_once(tmp_path: Path) -> None:
    """150,000 classes of which the last two are one, and as many keys of a document."""
    names = [*map(str, range(150_000)), "149999"]
    (tmp_path / "classes.txt").write_text("\n".join(names))
    begun = time.process_time()
    with pytest.raises(DeployError, match="'149999' appears twice"):
        read_classes(str(tmp_path / "classes.txt"))
    with pytest.raises(DeployError, match="'149999' appears twice"):
        parse_json("{" + ",".join(f'"{name}":0' for name in names) + "}")
    assert time.process_time() - begun < 10
