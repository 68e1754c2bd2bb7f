"""States survive the way there and back in both forms, and stay small."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain.fix import FixMode
from agent.domain.record import Position
from agent.domain.stamp import Utc, UtcSource
from agent.domain.state import (
    STATE_TYPES,
    HealthState,
    LinkState,
    LocationState,
    State,
    StatusState,
    VehicleState,
)
from agent.wire.codec import CodecError, Encoding, decode_state, encode_state
from agent.wire.fields import layout

NOW = Utc(1_795_310_000_250, UtcSource.GNSS, 500)
HERE = Position(42.3601234, -71.0589876, 12.3, 16.06, 271.4, FixMode.FIX_3D, 11, 1.35)

texts = st.text(st.characters(codec="utf-8"), max_size=6)
counts = st.integers(0, 2**40)
utcs = st.none() | st.builds(
    Utc, st.integers(-(2**45), 2**45), st.sampled_from(UtcSource), st.none() | st.integers(0, 2**40)
)
positions = st.none() | st.builds(
    Position,
    st.floats(-90, 90),
    st.floats(-180, 180),
    st.none() | st.floats(-500, 9000),
    st.none() | st.floats(0, 100),
    st.none() | st.floats(0, 359.9),
    st.sampled_from(FixMode),
    st.none() | st.integers(0, 99),
    st.none() | st.floats(0, 99),
).map(lambda position: layout(Position).unpack(layout(Position).pack(position)))
values = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(-1e9, 1e9) | texts
pairs = st.dictionaries(texts, values, max_size=5).map(lambda d: tuple(d.items()))
text_pairs = st.dictionaries(texts, texts, max_size=5).map(lambda d: tuple(d.items()))
nullable = st.none() | counts
states: st.SearchStrategy[State] = st.one_of(
    st.builds(
        LinkState,
        counts,
        utcs,
        counts,
        st.booleans(),
        texts,
        counts,
        counts,
        texts,
        nullable,
        st.booleans(),
        nullable,
        nullable,
    ),
    st.builds(LocationState, counts, utcs, positions, st.sampled_from(FixMode), positions, utcs),
    st.builds(StatusState, counts, utcs, st.none() | texts, utcs, nullable, st.booleans(), utcs, nullable),
    st.builds(VehicleState, counts, utcs, pairs),
    st.builds(HealthState, counts, utcs, st.lists(texts, max_size=9).map(tuple), text_pairs, nullable, utcs),
)


@settings(deadline=None, max_examples=200)
@given(states, st.sampled_from(("msgpack", "json")))
def test_round_trip(state: State, encoding: Encoding) -> None:
    encoded = encode_state(state, encoding)
    assert decode_state(state.name, encoded.payload) == state
    assert encoded.content_type == f"application/{encoding}"


def test_a_live_location_takes_at_most_45_bytes() -> None:
    state = LocationState(400_000_000, NOW, HERE, FixMode.FIX_3D)
    assert len(encode_state(state).payload) <= 45


def test_a_link_state_without_the_fields_that_came_later_is_read_and_so_is_one_with_more() -> None:
    state = LinkState(5, NOW, 7, True, "0" * 32, 1, 9, "0.1", 5)
    in_json = json.loads(encode_state(state, "json").payload)
    assert in_json.pop("events_seq") is in_json.pop("trail_seq") is None
    assert decode_state("link", json.dumps(in_json | {"later": 1}).encode()) == state
    array = msgpack.unpackb(encode_state(state).payload)
    fields = len(dataclasses.fields(LinkState))
    longer = [*array, 12, 70, *[None] * (fields - len(array) - 1), "later", {"and": [1]}]
    assert decode_state("link", msgpack.packb(longer)) == replace(state, events_seq=12, trail_seq=70)


def test_no_fix_has_no_position_in_either_form() -> None:
    """[MDT-S-03]"""
    state = LocationState(5, None, None, FixMode.NONE, HERE, NOW)
    assert decode_state("location", encode_state(state).payload) == state
    given = json.loads(encode_state(state, "json").payload)
    assert given["position"] is None
    assert given["last_known"]["lat_deg"] == 42.3601234
    assert given["last_known_utc"] == "2026-11-22T01:13:20.250+00:00"
    assert given["utc"] is None
    assert given["utc_source"] == "none"


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(STATE_TYPES)), st.binary(max_size=60))
def test_arbitrary_bytes_are_refused_or_a_state(name: str, payload: bytes) -> None:
    for candidate in (payload, b"\x9c\x01" + payload, b"{" + payload):
        with contextlib.suppress(CodecError):
            decode_state(name, candidate)


@settings(deadline=None, max_examples=200)
@given(states, st.data())
def test_damaged_states_are_refused_or_a_state(state: State, data: st.DataObject) -> None:
    payload = bytearray(encode_state(state, data.draw(st.sampled_from(("msgpack", "json")))).payload)
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CodecError):
        decode_state(state.name, bytes(payload))


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("link", [2, 1]),
        ("link", [1, 5, None, 7, True, "", 1, 1, "", 5, False, "12"]),
        ("link", [1, 5, None, "session"]),
        ("status", [1, 5, None, 7]),
        ("vehicle", [1, 5, None, ["Speed"]]),
        ("vehicle", [1, 5, None, {"Speed": [1]}]),
        ("health", [1, 5, None, "gnss_lost"]),
        ("health", [1, 5, None, [], {"gnss_lost": 1}]),
        ("location", [1, 5, None, None, 9]),
        ("location", [1, 5, None, [1, 2, 3], 3]),
        ("location", [1, 5, [1.5, 3, 0], None, 3]),
        ("location", [1, 5, 1795310000000, None, 3]),
        ("mood", [1]),
        ("link", 1),
        ("link", []),
    ],
)
def test_malformed_states_are_refused(name: str, array: Any) -> None:
    with pytest.raises(CodecError):
        decode_state(name, msgpack.packb(array))
