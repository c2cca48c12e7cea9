"""Notes of an export in a NIR file that are something else than text in a group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tcja_deploy.errors import FileFormatError
from tcja_deploy.exporters.nir import artifact


@pytest.mark.parametrize("metadata", [np.zeros(3), "text", None, {}])
def test_notes_that_are_no_group(metadata: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact, "read_nir_file", lambda path: ({"metadata": metadata}, None))
    with pytest.raises(FileFormatError, match="not written by tcja-deploy"):
        artifact.notes_of(Path("net.nir"))
