"""JSON Schemas (draft 2020-12) of what the program writes as JSON; made by `docs/generate_schemas.py`."""
