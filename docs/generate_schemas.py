"""Write the JSON Schemas and their page from the records that are written: `python docs/generate_schemas.py`."""

from __future__ import annotations

from pathlib import Path

from tcja_deploy.library.schemas import DOCUMENTS, written

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tcja_deploy" / "schemas"
PAGE = ROOT / "docs" / "reference" / "schemas.md"


def schemas_page() -> str:
    """The list of all documents."""
    rows = [f"| `{name}` | {where} |" for name, (where, _) in DOCUMENTS.items()]
    return _PAGE.format(rows="\n".join(rows))


_PAGE = """# JSON Schemas

Everything that the program writes as JSON has a [JSON Schema](https://json-schema.org) (draft 2020-12).
The files come with the package, in `tcja_deploy/schemas`:

```python
import json
from importlib.resources import files

schema = json.loads((files("tcja_deploy.schemas") / "energy-report.json").read_text())
```

| schema | documents |
|---|---|
{rows}

They are generated from the records that are written, and the tests hold real outputs of the commands against them. Objects
are closed: a field that is not named there is not written, and one that is named is always there unless it is not in
`required`. Where a row has a column per price list or meter, the columns are numbered (`energy_0_pJ`) in the order in which
they were asked for. Open are a target's own section of a manifest, except for Lava's (`lava-bundle`), and the parts
of a bundle.
"""

if __name__ == "__main__":
    for name in DOCUMENTS:
        (FOLDER / f"{name}.json").write_text(written(name), encoding="utf-8")
    PAGE.write_text(schemas_page(), encoding="utf-8")
