"""The documents of the contract are those of its tables, and public tools take them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agent.wire.topics import parse_topic
from hil.contract_documents import asyncapi, documents, schemas

FOLDER = Path(__file__).resolve().parents[2] / "config" / "contract"
VECTORS = sorted((FOLDER / "vectors").glob("*.json"))


def test_the_documents_that_are_kept_are_what_the_tables_make() -> None:
    for name, text in documents().items():
        kept = (FOLDER / name).read_text(encoding="utf-8")
        assert kept == text, f"{name} is not what the tables say: python -m hil contract"


@pytest.mark.parametrize("name", schemas())
def test_every_schema_is_one(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schemas()[name])


@pytest.mark.parametrize("file", VECTORS, ids=[file.stem for file in VECTORS])
def test_every_vector_is_as_its_schema_says(file: Path) -> None:
    vector = json.loads(file.read_text(encoding="utf-8"))
    parsed = parse_topic(vector["topic"])
    assert parsed is not None
    made = schemas()
    areas = {"state": f"state-{parsed.name}", "journal": "batch", "receipt": "receipt", "reply": "reply"}
    name = areas.get(parsed.area.value, parsed.name)
    jsonschema.validate(vector["json"], made[name])
    for record in vector["json"].get("records", []):
        if f"record-{record['kind']}" in made:
            jsonschema.validate(record["data"], made[f"record-{record['kind']}"])


def test_a_payload_of_the_wrong_type_is_refused_by_its_schema() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"version": 1, "boottime_ms": "soon"}, schemas()["state-status"])


def test_the_asyncapi_document_refers_to_nothing_that_is_not_there() -> None:
    document = asyncapi()

    def references(one: Any) -> list[str]:
        if isinstance(one, dict):
            own = [one["$ref"]] if isinstance(one.get("$ref"), str) else []
            return own + [found for value in one.values() for found in references(value)]
        return [found for value in one for found in references(value)] if isinstance(one, list) else []

    found = references({key: document[key] for key in ("channels", "operations")})
    found += references(document["components"]["messages"])
    assert len(found) > 50
    for reference in found:
        at: Any = document
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]
    assert document["asyncapi"] == "3.0.0"
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert {"ems/v1/{agency}/{unit}/state/link", "ems/v1/{agency}/{unit}/receipt"} <= addresses
