"""Document, schemas and list of tokens are those of the tables, and each sentence has its test."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import jsonschema
import pytest

from agent.domain.field import Token
from agent.domain.record import EvidenceRecord, Kind
from agent.domain.state import STATES
from agent.wire.fields import layout
from hil import contract_tables

TESTS = Path(__file__).parents[2]
SENTENCE = re.compile(r"\[(MDT-[A-Z]-\d\d)\]")


def test_the_files_are_those_of_the_tables() -> None:
    for path, text in contract_tables.files().items():
        assert path.read_text(encoding="utf-8") == text, "run python -m hil.contract_tables"


def test_every_sentence_that_binds_is_cited_by_a_test_and_no_other() -> None:
    told = Counter(SENTENCE.findall(contract_tables.DOCUMENT.read_text(encoding="utf-8")))
    told["MDT-T-01"] -= 1  # once more in the paragraph that explains what an id is
    assert set(told.values()) == {1}, "an id stands once"
    cited = {
        one for path in TESTS.rglob("*.py") for one in SENTENCE.findall(path.read_text(encoding="utf-8"))
    }
    assert cited - set(told) == set(), "there is no such sentence"
    assert set(told) - cited == set(), "cite the id in the docstring of the test that holds it"


def test_every_word_that_a_field_may_hold_is_in_the_list() -> None:
    used = {
        row.row.tokens
        for of in (*[kind.body for kind in Kind], *STATES, EvidenceRecord, *contract_tables.REQUESTS.values())
        for row in layout(of).rows
        if row.row.tokens is not None
    }
    assert used <= set(contract_tables.TOKENS.values())
    assert all(issubclass(one, Token) for one in used)


def test_the_schemas_are_schemas_and_take_the_vectors() -> None:
    schemas = json.loads((contract_tables.FOLDER / "schemas.json").read_text(encoding="utf-8"))
    checked = 0
    for path in (contract_tables.FOLDER / "vectors").glob("*.json"):
        vector = json.loads(path.read_text(encoding="utf-8"))
        area, _, name = vector["topic"].partition("/A7/")[2].partition("/")
        if area == "state":
            jsonschema.validate(vector["json"], schemas["$defs"][f"state.{name}"])
            checked += 1
        for record in vector["json"].get("records", ()):
            if record["kind"] is not None:
                jsonschema.validate(record["data"], schemas["$defs"][f"record.{record['kind']}"])
                checked += 1
    assert checked > 80
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"code": 5, "text": "x"}, schemas["$defs"]["record.alert"])
