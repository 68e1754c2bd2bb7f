"""What dispatch does not know yet is stored and confirmed, and costs no other record."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest

from agent.dispatch import queries
from agent.dispatch.intake import Intake, Message
from agent.dispatch.store.engine import engine_of
from agent.dispatch.store.store import Store
from agent.domain.record import Kind, Stream
from agent.wire.topics import Topics

A1 = Topics("boston-ems", "A1")
NOW_MS = 1_790_000_000_000
BODIES: list[Any] = [
    ["something", {"quite": [1, "\x00", {"new": None}]}, 2**63],
    {"no": "list"},
    [float("nan"), float("-inf")],
    [],
    ["a", "b"],
]


def compact(kinds: list[int], bodies: list[Any]) -> bytes:
    tags = [0, *(kind * 8 + 3 for kind in kinds)]
    stamps = [[1, 1, *[1] * (len(kinds) - 1)], tags, NOW_MS, 1000 - NOW_MS, 500]
    return b"\x10\0\0\0\x09\x03" + bytes(msgpack.packb([len(kinds), stamps, [], bodies]))


def in_json(kinds: list[int], bodies: list[Any]) -> bytes:
    names = dict.fromkeys(kinds, "") | {1: "emergency", 3: "alert"}
    common = {"unit": "A1", "stream": "events", "journal": 9, "boot": 3, "boottime_ms": 1000, "utc": None}
    records = [
        common
        | {"seq": seq, "kind": names[kind] or f"future-{kind}", "kind_number": kind, "data": {"code": body}}
        for seq, (kind, body) in enumerate(zip(kinds, bodies, strict=True), 1)
    ]
    return json.dumps({"version": 1, "history": False, "replay": False, "records": records}).encode()


@pytest.mark.parametrize("form", [compact, in_json])
def test_records_of_kinds_and_bodies_of_the_future_are_stored_and_confirmed(
    store_url: str, form: Any
) -> None:
    """[MDT-V-01] [MDT-V-04] [MDT-B-01]"""
    kinds = [99, 32_768, 65_535, int(Kind.EMERGENCY), int(Kind.ALERT)]
    store = Store(engine_of(store_url))
    intake = Intake(store.open())
    heard = intake.hear([Message(A1.journal(Stream.EVENTS), form(kinds, BODIES), NOW_MS)])
    assert not heard.refused
    store.write(heard)
    assert [receipt.through_seq for _, receipt in heard.receipts] == [5]
    found = queries.records(store.connection, since_ms=0, until_ms=NOW_MS + 1)
    assert [one["seq"] for one in found] == [1, 2, 3, 4, 5]
    assert [one["kind"] for one in found] == ["kind_99", "kind_32768", "kind_65535", "emergency", "alert"]
    json.dumps(found, allow_nan=False)
    (alarm,) = queries.alarms(store.connection, open_only=True)
    assert (alarm["kind"], alarm["priority"], alarm["seq"]) == ("emergency", "high", 4)
    assert "can not be read" in alarm["text"]
    assert store.rebuild() == 5
    assert queries.records(store.connection, since_ms=0, until_ms=NOW_MS + 1) == found
    store.close()
