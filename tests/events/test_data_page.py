"""docs/data.md says what the readers read."""

import importlib.util
from pathlib import Path

import pytest
from golden_files import LARGER

from tcja_deploy.events import open_data
from tcja_deploy.events.formats import READERS

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_table_is_that_of_the_readers() -> None:
    spec = importlib.util.spec_from_file_location("generate_readers", DOCS / "generate_readers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (DOCS / "data.md").read_text()
    assert module.filled(page) == page, "run python docs/generate_readers.py"
    assert all(suffix in page for reader in READERS for suffix in reader.suffixes)


@pytest.mark.larger_sets
def test_the_camera_file_of_the_page_and_its_conversion_give_the_same_frames(tmp_path: Path) -> None:
    faery = pytest.importorskip("faery")
    source = LARGER / "data" / "raw" / "sample.aedat4"
    faery.events_stream_from_file(source).to_file(tmp_path / "sample.raw", version="evt3")
    for way in ("nearest", "area"):
        options = {"timesteps": 10, "sensor": (34, 34), "frame_time": 30_000, "resize": way}
        original, converted = (open_data(path, **options)[0][0] for path in (source, tmp_path / "sample.raw"))
        assert (original == converted).all()
        assert original.any((1, 2, 3)).all()
