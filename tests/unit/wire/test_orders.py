"""Commands of dispatch as the unit reads them: well-formed, or refused with a reason, never anything else."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.call import Call
from agent.wire import orders
from agent.wire.batch import CodecError

DECODERS = [
    orders.decode_assign,
    orders.decode_update,
    orders.decode_cancel,
    orders.decode_message,
    orders.decode_answer,
    orders.decode_amend,
    orders.decode_sign_on,
    orders.decode_cancel_emergency,
]


def coded(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def test_a_call_is_read_and_what_is_new_in_it_ignored() -> None:
    order = orders.decode_assign(coded(id="1", incident="I-7", nature="fall", others=["A2"], tomorrow=1))
    assert order == orders.Assign("1", Call("I-7", nature="fall", alternates=("A2",)))


def test_an_update_holds_only_what_is_given() -> None:
    order = orders.decode_update(coded(id="1", incident="I-7", lat_deg=42.1, lon_deg=-71.0))
    assert dict(order.fields) == {"lat_deg": 42.1, "lon_deg": -71.0}


def test_answers_amendments_and_sign_ons_are_read() -> None:
    answer = orders.decode_answer(
        coded(journal=7, seq=3, verdict="refused", token="no_incident", sentence="?")
    )
    assert answer == orders.Answer("", 7, 3, False, "no_incident", "?")
    amend = orders.decode_amend(
        coded(id="a", journal=7, seq=3, utc="2026-09-14T12:00:00+00:00", reason="late")
    )
    assert amend.unix_ms == 1_789_387_200_000
    assert amend.by is None
    cancelled = orders.decode_cancel_emergency(coded(id="e", journal=7, seq=3, by="d-7", reason="by radio"))
    assert cancelled == orders.CancelEmergency("e", 7, 3, "d-7", "by radio")
    with pytest.raises(CodecError, match="by is missing"):
        orders.decode_cancel_emergency(coded(id="e", journal=7, seq=3))
    assert orders.decode_sign_on(coded(id="s", crew=["c1"], driver="c1")).crew == ("c1",)


@pytest.mark.parametrize(
    ("decode", "payload", "why"),
    [
        (orders.decode_assign, b"\xff", "JSON"),
        (orders.decode_assign, b"[" * 9_000, "bytes"),
        (orders.decode_assign, b"[" * 8_000, "JSON"),
        (orders.decode_assign, b"[]", "JSON object"),
        (orders.decode_assign, coded(incident="I"), "id is missing"),
        (orders.decode_assign, coded(id="1"), "incident"),
        (orders.decode_assign, coded(id="1", incident="I", lat_deg=1.0), "together"),
        (orders.decode_update, coded(id="1", nature="x"), "incident is missing"),
        (orders.decode_message, coded(id="1", text=" "), "text or a code"),
        (orders.decode_message, coded(id="1", code="fly"), "code"),
        (orders.decode_answer, coded(journal=7, seq=3, verdict="maybe"), "verdict"),
        (orders.decode_answer, coded(journal=7, seq=-1, verdict="accepted"), "seq"),
        (orders.decode_answer, coded(journal=7, seq=True, verdict="accepted"), "seq"),
        (orders.decode_answer, coded(journal=7, seq=3, verdict="accepted", stream="trail"), "events"),
        (orders.decode_amend, coded(id="1", journal=7, seq=3, reason="x"), "changes"),
        (
            orders.decode_amend,
            coded(id="1", journal=7, seq=3, utc="2026-09-14T12:00:00", reason="x"),
            "offset",
        ),
        (orders.decode_amend, coded(id="1", journal=7, seq=3, utc="noon", reason="x"), "ISO"),
        (
            orders.decode_amend,
            coded(id="1", journal=7, seq=3, utc="9999-12-31T23:59:59-14:00", reason="beyond the calendar"),
            "ISO",
        ),
        (
            orders.decode_amend,
            coded(id="1", journal=7, seq=3, utc="0001-01-01T00:00:00+14:00", reason="before it"),
            "ISO",
        ),
        (orders.decode_sign_on, coded(id="1", crew=["c"] * 7), "crew"),
    ],
)
def test_what_is_not_well_formed_is_refused_with_why(
    decode: Callable[[bytes], Any], payload: bytes, why: str
) -> None:
    with pytest.raises(CodecError, match=why):
        decode(payload)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(
    [
        "id",
        "incident",
        "lat_deg",
        "lon_deg",
        "others",
        "text",
        "code",
        "journal",
        "seq",
        "verdict",
        "utc",
        "status",
        "reason",
        "crew",
        "driver",
        "notes",
    ]
)


@given(
    st.sampled_from(DECODERS),
    st.binary(max_size=60) | st.dictionaries(keys, values).map(lambda d: coded(**d)),
)
def test_any_payload_is_a_command_or_refused(decode: Callable[[bytes], Any], payload: bytes) -> None:
    with contextlib.suppress(CodecError):
        assert decode(payload) is not None
