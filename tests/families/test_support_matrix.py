"""Every family through every target, and the table in the documentation says what came out."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from family_nets import FAMILIES, net
from targets import TARGETS, columns

from tcja_deploy.errors import UsageError
from tcja_deploy.exporters import targets as exporters

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
import generate_support_matrix as generator  # noqa: E402

TABLE = generator.table(generator.documents()[0])
DOCUMENTED = {line.split(" | ")[0].removeprefix("| "): line for line in TABLE[2:]}


def test_the_table_has_all_rows_and_columns() -> None:
    assert "".join(TABLE[:2]) == generator.header(list(TARGETS))
    assert list(DOCUMENTED) == [family.title for family in FAMILIES.values()]


def test_all_documents_have_the_same_table() -> None:
    assert [generator.table(document) for document in generator.documents()] == [TABLE] * len(
        generator.documents()
    )


def test_a_new_target_gets_a_column(tmp_path: Path) -> None:
    """The columns are made from the table of targets: one that is added is tried without another line."""
    added = replace(exporters.TARGETS["onnx"], name="added", title="Added")
    more = columns({**exporters.TARGETS, "added": added})
    assert set(more) == {*TARGETS, "Added"}
    assert len(TARGETS) == len(exporters.TARGETS) + 3
    with pytest.raises(UsageError, match="unknown target 'added'"):  # it is tried under its own name
        more["Added"](net(next(iter(FAMILIES))), tmp_path)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("key", FAMILIES)
def test_cell(key: str, target: str, tmp_path: Path) -> None:
    line = DOCUMENTED[FAMILIES[key].title]
    documented = line.removesuffix(" |\n").split(" | ")[1 + list(TARGETS).index(target)]
    assert TARGETS[target](net(key), tmp_path) == documented
