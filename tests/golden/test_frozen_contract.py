"""Version 1 is frozen: what stands in version_1.json is never moved, renamed, rescaled or taken away.

Fields and kinds that come later are not in that file: they stand behind, and readers of then ignore them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.domain.record import EvidenceRecord, Kind
from agent.domain.state import STATES
from agent.wire.fields import layout
from hil.contract_tables import REQUESTS

FROZEN = json.loads(Path(__file__).with_name("version_1.json").read_text(encoding="utf-8"))
TABLES: dict[str, type[Any]] = {
    **{kind.token: kind.body for kind in Kind},
    **{f"state/{state.name}": state for state in STATES},
    "evidence": EvidenceRecord,
    **REQUESTS,
}


def test_the_numbers_of_kinds_are_those_of_the_first_day() -> None:
    numbers = {kind.token: kind.value for kind in Kind}
    assert FROZEN["kinds"].items() <= numbers.items()
    later = numbers.keys() - FROZEN["kinds"].keys()
    assert not {numbers[token] for token in later} & set(FROZEN["kinds"].values())


@pytest.mark.parametrize("name", FROZEN["fields"])
def test_fields_stand_where_they_stood(name: str) -> None:
    """[MDT-V-08]"""
    now = [[row.name, row.form.name, row.row.scale] for row in layout(TABLES[name]).rows]
    frozen = FROZEN["fields"][name]
    assert now[: len(frozen)] == frozen
    for row in layout(TABLES[name]).rows[len(frozen) :]:
        assert row.row.since > 1, (
            f"{name}.{row.name} is not of revision 1: say since=2 (or later) in its Field"
        )
    if name.split("/", maxsplit=1)[0] not in ("command", "receipt", "reply"):  # maps by name have no order
        assert all(row.nullable for row in layout(TABLES[name]).rows[len(frozen) :])
