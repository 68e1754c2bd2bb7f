"""The tables of kinds and fields: all that is in them can be sent, within its bounds, in both forms."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import jsonschema
import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain.field import Field, Token
from agent.domain.fix import FixMode
from agent.domain.health import HealthReason
from agent.domain.record import (
    AlertCode,
    Body,
    EvidenceRecord,
    GapReason,
    Kind,
    Opaque,
    Position,
    StatusChange,
    Stream,
    Telemetry,
    token_of,
)
from agent.domain.stamp import Utc, UtcSource
from agent.domain.state import STATES, State, VehicleState
from agent.domain.status import UnitStatus
from agent.outbox.entry import STREAM_OF_KIND
from agent.wire.body import (
    MAX_BODY_BYTES,
    body_from_json,
    body_to_json,
    bounded,
    pack_body,
    unpack_body,
)
from agent.wire.codec import decode_state, encode_state
from agent.wire.fields import ELLIPSIS, Layout, Row, cut, layout, schema

BODIES = [kind.body for kind in Kind]
STATE_BYTES = 3900
"""With topic, properties and headers a state has to go into a packet of 4 KiB."""
WIDE = "\U0001f691"
STRATEGIES: dict[type[Any], st.SearchStrategy[Any]] = {}


def strategy(of: type[Any]) -> st.SearchStrategy[Any]:
    """Any value of a table, within its limits."""
    if of not in STRATEGIES:
        STRATEGIES[of] = st.builds(of, *[field(of, row) for row in layout(of).rows])
    return STRATEGIES[of]


def field(of: type[Any], row: Row) -> st.SearchStrategy[Any]:
    inner = get_args(get_type_hints(of, include_extras=True)[row.name])[0]
    kinds = [one for one in get_args(inner) if one is not type(None)] if row.nullable else [inner]
    text = st.text(st.characters(codec="utf-8"), max_size=5)
    value: st.SearchStrategy[Any]
    if row.row.scale:
        value = st.integers(-(2**31), 2**31).map(lambda whole: whole / row.row.scale)
        value = st.integers(0, row.row.wrap - 1).map(lambda n: n / row.row.scale) if row.row.wrap else value
    elif row.form.name == "text":
        value = text
    elif row.form.name == "list of texts":
        value = st.lists(text, max_size=4).map(tuple)
    elif row.form.name.startswith("map"):
        of_name = {"integers": st.integers(0, 2**60), "texts": text}
        values = of_name.get(
            row.form.name.removeprefix("map of "),
            st.none()
            | st.booleans()
            | st.integers(-(2**60), 2**60)
            | st.floats(allow_nan=False, allow_infinity=False)
            | text,
        )
        value = st.dictionaries(text, values, max_size=4).map(lambda d: tuple(d.items()))
    else:
        simple = {
            bool: st.booleans(),
            int: st.integers(-(2**60), 2**60),
            float: st.floats(allow_nan=False, allow_infinity=False),
            FixMode: st.sampled_from(FixMode),
            Utc: st.builds(
                Utc, st.integers(0, 2**45), st.sampled_from(UtcSource), st.none() | st.integers(0, 9)
            ),
        }
        value = simple[kinds[0]] if kinds[0] in simple else strategy(kinds[0])
    return st.none() | value if row.nullable else value


def fullest(of: type[Any], character: str) -> Any:
    """The largest value of a table: every text and list far beyond its limit."""
    values = []
    for row in layout(of).rows:
        inner = get_args(get_type_hints(of, include_extras=True)[row.name])[0]
        kinds = [one for one in get_args(inner) if one is not type(None)] if row.nullable else [inner]
        long = character * 5000
        if row.row.scale:
            value: Any = 2**62 / row.row.scale
        elif row.form.name == "text":
            value = long
        elif row.form.name == "list of texts":
            value = (long,) * 5000
        elif row.form.name == "map of values":
            value = tuple((f"{n}{long}", long) for n in range(5))
        elif row.form.name == "map of integers":
            value = tuple((token_of(n), 2**60) for n in range(1000, 6000))
        elif row.form.name == "map of texts":
            value = tuple((reason.value, long) for reason in HealthReason)
        else:
            value = {
                bool: True,
                int: 2**62,
                float: 1.5,
                FixMode: FixMode.FIX_3D,
                Utc: Utc(2**45, UtcSource.GNSS, 2**40),
            }.get(kinds[0])
            value = fullest(kinds[0], character) if value is None else value
        values.append(value)
    return of(*values)


@pytest.mark.parametrize("of", BODIES, ids=lambda of: of.__name__)
@settings(deadline=None, max_examples=12)
@given(st.data())
def test_every_body_survives_both_forms(of: type[Body], data: st.DataObject) -> None:
    """[MDT-V-07] [MDT-F-01]"""
    body = data.draw(strategy(of))
    kind = next(kind for kind in Kind if kind.body is of)
    assert unpack_body(kind, pack_body(body)) == body
    told = body_to_json(body)
    assert body_from_json(kind, kind.token, told) == body
    jsonschema.validate(told, schema(of))
    assert len(pack_body(body)) <= MAX_BODY_BYTES


@pytest.mark.parametrize("of", STATES, ids=lambda of: of.__name__)
@settings(deadline=None, max_examples=12)
@given(st.data())
def test_every_state_survives_both_forms(of: type[State], data: st.DataObject) -> None:
    state = data.draw(strategy(of))
    for encoding in ("msgpack", "json"):
        assert decode_state(state.name, encode_state(state, encoding).payload) == state


@pytest.mark.parametrize("character", ["x", "é", WIDE])
@pytest.mark.parametrize("of", BODIES, ids=lambda of: of.__name__)
def test_no_body_is_larger_than_2_kib_whatever_is_put_into_it(of: type[Body], character: str) -> None:
    """[MDT-L-01]"""
    parts = bounded(fullest(of, character))
    assert len(parts) == 1 or of is Telemetry
    for part in parts:
        packed = pack_body(part)
        assert len(packed) <= MAX_BODY_BYTES
        assert not isinstance(unpack_body(next(kind for kind in Kind if kind.body is of), packed), Opaque)


@pytest.mark.parametrize("of", [one for one in STATES if one is not VehicleState], ids=lambda of: of.__name__)
def test_no_state_but_the_vehicles_is_larger_than_a_packet_of_4_kib(of: type[State]) -> None:
    assert len(encode_state(fullest(of, WIDE)).payload) <= STATE_BYTES


def test_telemetry_is_divided_by_its_signals_and_none_is_lost() -> None:
    signals = tuple((f"Cabin.Door.Row{n}.IsOpen", "x" * (n % 90)) for n in range(300))
    parts = bounded(Telemetry(signals))
    assert len(parts) > 3
    assert all(isinstance(part, Telemetry) and len(pack_body(part)) <= MAX_BODY_BYTES for part in parts)
    assert tuple(pair for part in parts if isinstance(part, Telemetry) for pair in part.signals) == signals
    assert bounded(Telemetry(signals[:10])) == [Telemetry(signals[:10])]


@given(st.text(max_size=40), st.integers(3, 60))
def test_a_text_that_is_cut_says_so(text: str, most: int) -> None:
    short = cut(text, most)
    assert len(short.encode()) <= most
    if short != text.encode("utf-8", "replace").decode():
        assert short.endswith(ELLIPSIS)
        assert text.encode("utf-8", "replace").decode().startswith(short[:-1])


def test_a_list_that_is_cut_says_so() -> None:
    row = StatusChange("en_route", None, "x", None, flags=tuple(f"flag{n}" for n in range(20)))
    read = unpack_body(Kind.STATUS, pack_body(row))
    assert isinstance(read, StatusChange)
    assert read.flags == (*row.flags[:7], ELLIPSIS)  # type: ignore[index]  # it has flags


def test_a_field_without_its_row_is_told_what_to_write() -> None:
    @dataclass(frozen=True, slots=True)
    class Weather(Body):
        rain_mm: float

    with pytest.raises(TypeError, match=r"Weather.rain_mm: write it as Annotated\[type, Field"):
        Layout(Weather)


def test_a_field_of_a_type_without_a_form_is_named() -> None:
    class Weather(Body):
        pass

    Weather.__annotations__ = {"rain": Annotated[set[str], Field("Where.")]}
    with pytest.raises(TypeError, match=r"Weather\.rain: there is no form"):
        Layout(dataclass(Weather))


def test_a_later_field_must_be_nullable() -> None:
    class Weather(Body):
        pass

    Weather.__annotations__ = {"rain_mm": Annotated[int, Field("How much.", since=2)]}
    with pytest.raises(TypeError, match="came later"):
        Layout(dataclass(Weather))


def test_a_kind_without_a_complete_row_is_told_what_is_missing() -> None:
    make = Kind.__dict__["__new_member__"]
    with pytest.raises(
        TypeError, match="a row is number, streams, durable at once, order of giving up, body"
    ):
        make(Kind, 200)
    with pytest.raises(TypeError, match="in which order it is given up"):
        make(Kind, 200, (Stream.TRAIL,), False, None, Position)
    with pytest.raises(TypeError, match="nothing is given up"):
        make(Kind, 200, (Stream.EVENTS,), True, 1, Position)


def test_a_body_or_state_that_misses_its_row_is_named() -> None:
    def made_in(base: type[Any]) -> set[str]:
        return {one.__name__ for one in base.__subclasses__() if one.__module__ == base.__module__}

    rows = {kind.body.__name__ for kind in Kind} | {Opaque.__name__}
    assert made_in(Body) == rows, "give each Body its row in Kind: number, streams, durable, given up, body"
    states = {state.__name__ for state in STATES}
    assert made_in(State) == states, "put each State into STATES, or it has no topic"


def test_a_token_without_its_sentence_is_told_what_to_write() -> None:
    with pytest.raises(TypeError, match="What it says"):

        class Weather(Token):
            RAIN = "rain"


def test_the_table_of_kinds_is_what_readers_and_stores_rely_on() -> None:
    numbers = [kind.value for kind in Kind]
    assert len(set(numbers)) == len(numbers)
    assert all(0 < number < 8192 for number in numbers), "a tag is at most two bytes"
    assert len({kind.body for kind in Kind}) == len(Kind)
    for kind in Kind:
        assert issubclass(kind.body, Body)
        if kind is not Kind.GAP:
            assert STREAM_OF_KIND[kind.value] is kind.stream
            assert kind.stream is Stream.TRAIL or kind.durable_at_once
    with pytest.raises(ValueError, match="either stream"):
        _ = Kind.GAP.stream
    frozen = {"emergency": 1, "status": 2, "alert": 3, "position": 4, "telemetry": 5, "health": 6, "gap": 7}
    assert {kind.token: kind.value for kind in Kind if kind <= Kind.GAP} == frozen


@pytest.mark.parametrize("of", [*BODIES, *STATES, EvidenceRecord], ids=lambda of: of.__name__)
def test_every_field_says_in_one_sentence_what_it_is(of: type[Any]) -> None:
    for row in layout(of).rows:
        assert row.row.sentence.endswith("."), row.name
        assert len(row.row.sentence) <= 130, row.name
        units = {"_m": "m", "_ms": "ms", "_s": "s", "_mps": "m/s", "_deg": "degree", "_l": "l"}
        ending = "_" + row.name.rpartition("_")[2]
        if "_" in row.name and ending in units:
            assert row.row.unit == units[ending], row.name


@pytest.mark.parametrize("of", [UnitStatus, HealthReason, AlertCode, GapReason])
def test_every_token_fits_its_fields_and_has_a_sentence(of: type[Token]) -> None:
    for one in of:
        assert one.isascii()
        assert len(one) <= 24
        assert one.sentence.endswith((".", ")."))


def test_fields_keep_their_places() -> None:
    """Version 1 is frozen: a field is never moved, renamed or taken away; later ones come behind.

    [MDT-V-08]
    """
    assert [row.name for row in layout(Position).rows][:8] == [
        "lat_deg", "lon_deg", "alt_m", "speed_mps", "course_deg", "mode", "satellites", "hdop"
    ]  # fmt: skip
    assert [one.name for one in dataclasses.fields(StatusChange)][:5] == [
        "status", "previous", "input", "press_seq", "press_session"
    ]  # fmt: skip
    assert msgpack.unpackb(pack_body(StatusChange("en_route", None, "x", None))) == ["en_route", None, "x"]


def test_every_alert_that_the_agent_makes_has_its_row() -> None:
    """A code that is written out where it is raised is in nobody's list of tokens."""
    agent = Path(__file__).parents[3] / "agent"
    found = [
        path.name
        for path in sorted(agent.rglob("*.py"))
        if "dispatch" not in path.parts  # its kit for readers sends codes that no list has, on purpose
        and re.search(r'\bAlert\(\s*f?"|_tell\(\s*f?"', path.read_text(encoding="utf-8"))
    ]
    assert found == [], "write Alert(AlertCode.X, ...) and give it a row"


@pytest.mark.parametrize("beyond", [1 << 64, -(1 << 63) - 1, 1 << 900, 1 << 1023])
def test_a_number_beyond_64_bits_is_no_value_and_keeps_no_press_from_being_stored(beyond: int) -> None:
    evidence = EvidenceRecord(odometer_m=beyond, place="bmc", speed_mps=float(beyond))
    press = StatusChange("on_scene", None, "b1", 4, evidence=evidence)
    given = unpack_body(Kind.STATUS.value, pack_body(press))
    assert given == replace(press, evidence=EvidenceRecord(place="bmc"))
