"""The wire format's test vectors, held against the codec and against a reader made from the document alone.

After a deliberate change of the format, write them anew with
`.venv/bin/python tests/golden/test_wire_vectors.py` and read the difference.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgpack
import pytest

from agent.domain.fix import FixMode
from agent.domain.record import (
    KIND_OF_BODY,
    Alert,
    Body,
    CallRecord,
    ClockCorrection,
    CrewRecord,
    Driving,
    Emergency,
    EvidenceRecord,
    Gap,
    Health,
    PlaceRecord,
    Position,
    StatusChange,
    Stream,
    Telemetry,
    TripRecord,
    TroubleCode,
    Verdict,
    Withdrawal,
)
from agent.domain.stamp import Utc, UtcSource
from agent.domain.state import (
    DestinationState,
    HealthState,
    LinkState,
    LocationState,
    State,
    StatusState,
    UnitState,
    VehicleState,
)
from agent.wire.body import pack_body
from agent.wire.codec import BatchHeader, decode_batch, decode_state, encode_batch, encode_state
from agent.wire.reader_request import JournalRequest, Receipt, ReplayRequest, Reply, decode_map, encode_map
from agent.wire.row import Row
from agent.wire.topics import Topics

FOLDER = Path(__file__).parents[2] / "config" / "contract" / "vectors"
A7 = Topics("boston-ems", "A7")
UTC_MS = 1_795_310_000_000
HERE = Position(42.3601, -71.0589, 12.3, 8.25, 271.4, FixMode.FIX_3D, 9, 0.9)
STANDING = Position(-33.8568, 151.2153, None, 0.0, None, FixMode.FIX_2D, None, None)


def row(seq: int, body: Body, utc_ms: int | None = UTC_MS, source: UtcSource = UtcSource.GNSS) -> Row:
    offset_ms = seq * 1000
    return Row(
        seq=seq,
        kind=int(KIND_OF_BODY[type(body)]),
        boot=3,
        boottime_ms=60_000 + offset_ms + seq % 7,
        utc_ms=None if utc_ms is None else utc_ms + offset_ms,
        utc_source=int(source if utc_ms is not None else UtcSource.NONE),
        utc_uncertainty_ms=None if utc_ms is None else 0 if isinstance(body, Position) else 500,
        body=pack_body(body),
    )


def header(stream: Stream, *, history: bool = False, replay: bool = False) -> BatchHeader:
    return BatchHeader("A7", stream, 0xDEADBEEF, 3, history, replay)


def moved(step: int) -> Position:
    """A drive to the south-west with a turn: falling coordinates, a course that passes north, nulls."""
    return Position(
        lat_deg=42.3601 - step * 1e-4 + step * step * 2e-6,
        lon_deg=-71.0589 - step * 1.5e-4,
        alt_m=None if step in (2, 3) else 12.3 - step / 10,
        speed_mps=11.5 + step % 3 / 4,
        course_deg=None if step == 5 else (358.7 + step * 0.9) % 360,
        mode=FixMode.FIX_3D if step != 4 else FixMode.FIX_2D,
        satellites=9 + step % 2,
        hdop=0.9,
    )


BATCHES: dict[str, tuple[str, BatchHeader, list[Row]]] = {
    "one_status": (
        "One press, live: the row form.",
        header(Stream.EVENTS),
        [row(1, StatusChange("en_route", "available", "en_route", 41, 2))],
    ),
    "one_position": ("One live position: the row form.", header(Stream.TRAIL), [row(70_000, HERE)]),
    "one_without_utc": (
        "A position before any time is known.",
        header(Stream.TRAIL),
        [row(1, STANDING, utc_ms=None)],
    ),
    "minute_of_positions": (
        "Sixty positions of a drive: columns, deflated; nulls, falling and rising values.",
        header(Stream.TRAIL),
        [row(100 + step, moved(step)) for step in range(60)],
    ),
    "few_positions": (
        "Three positions: columns, too short to deflate.",
        header(Stream.TRAIL),
        [row(7 + step, moved(step)) for step in range(3)],
    ),
    "mixed_trail_with_hole": (
        "Every kind of the trail; 24 and 25 absent, a gap record for 26 to 30, UTC unknown at first.",
        header(Stream.TRAIL, history=True),
        [
            row(21, moved(0), utc_ms=None),
            row(22, Telemetry((("Speed", 41.5), ("Cabin.Door.Row1.DriverSide.IsOpen", False), ("X", None)))),
            row(23, moved(1)),
            row(26, Gap(30, "thinned", (("position", 4), ("telemetry", 1)))),
            row(31, Health(("can_silent", "gnss_no_fix"), ("gnss_no_fix",), ())),
            row(32, moved(2), source=UtcSource.NTP),
        ],
    ),
    "replayed_events": (
        "An answer to a replay request, every kind of the events.",
        header(Stream.EVENTS, replay=True),
        [
            row(4, Emergency(active=True, input="emergency", press_seq=None)),
            row(5, Emergency(active=False, input="emergency", press_seq=9, press_session=1)),
            row(6, StatusChange("available", None, "available", None)),
            row(9, Alert("store_set_aside", "The store was damaged; what could be read was carried over.")),
        ],
    ),
    "history_and_replay": (
        "Both flags, one record.",
        header(Stream.EVENTS, history=True, replay=True),
        [row(300, StatusChange("on_scene", "en_route", "on_scene", 2**40, 7))],
    ),
}

BATCHES |= {
    "one_call": (
        "A kind whose tag takes two bytes, alone: the row form.",
        header(Stream.TRAIL),
        [row(77, PlaceRecord("in", "bmc", "hospital", position=HERE, incident="F26-0042"))],
    ),
    "events_of_a_call": (
        "A call from reception to its verdict, evidence beside the press, a correction of the clock.",
        header(Stream.EVENTS),
        [
            row(40, CallRecord("received", "F26-0042", "c1", 1)),
            row(41, CallRecord("acknowledged", "F26-0042", "c1", 1, "button", "p17")),
            row(
                42,
                StatusChange(
                    "on_scene",
                    "en_route",
                    "on_scene",
                    12,
                    1,
                    flags=("contradicted",),
                    incident="F26-0042",
                    evidence=EvidenceRecord(HERE, 800, 123_456_789, "rolling", None, 14.25, 350),
                ),
            ),
            row(
                43,
                Verdict(42, accepted=False, reason="out_of_sequence", text="Not on this call.", request="a9"),
            ),
            row(44, Withdrawal(42, "status", "panel", "p17", "en_route")),
            row(45, ClockCorrection(3, 0, 90_000, 1_795_309_940_000, 3, 20)),
            row(46, CrewRecord("on", ("p17", "p18"), "p18", "p17", "A7", "night", "panel")),
        ],
    ),
    "trail_of_a_shift": (
        "Positions with texts in their columns, and the trail's other kinds.",
        header(Stream.TRAIL),
        [
            row(90, replace(moved(0), incident="F26-0042")),
            row(91, replace(moved(1), quality="estimated", uncertainty_m=22.5, incident="F26-0042")),
            row(92, Driving("braking", 2, 5.12, 4.5, 900, "lights_and_siren", position=HERE)),
            row(93, TroubleCode(active=True, spn=110, fmi=3, occurrences=1, lamps=("amber",))),
            row(94, moved(2)),
            row(95, TripRecord(4000, 1800, 12_345, events=(("braking", 2),), begin=HERE)),
        ],
    ),
    "from_the_future": (
        "A kind that this version does not know, between two that it does.",
        header(Stream.EVENTS),
        [
            row(60, Alert("a", "b")),
            row(61, Alert("a", "b"))._replace(
                kind=99, body=msgpack.packb(["rain", 3, {"mm": 5, "why": None}])
            ),
            row(62, Alert("c", "d")),
        ],
    ),
}

NOW = Utc(UTC_MS + 250, UtcSource.GNSS, 500)
STATES: dict[str, tuple[str, State]] = {
    "state_link_birth": (
        "Birth message.",
        LinkState(
            61_000,
            NOW,
            0x1234ABCD,
            True,
            "0f" * 16,
            3,
            0xDEADBEEF,
            "0.1.0",
            5,
            events_seq=12,
            trail_seq=70_000,
        ),
    ),
    "state_link_will": (
        "The will of the same session.",
        LinkState(61_000, None, 0x1234ABCD, False, "0f" * 16, 3, 0xDEADBEEF, "0.1.0"),
    ),
    "state_location": ("A live position.", LocationState(61_000, NOW, HERE, FixMode.FIX_3D)),
    "state_location_lost": (
        "No fix: the last position is told apart from a live one.",
        LocationState(75_000, None, None, FixMode.NONE, HERE, NOW),
    ),
    "state_status": (
        "A status and an active emergency.",
        StatusState(61_000, NOW, "on_scene", NOW, 12, True, Utc(UTC_MS, UtcSource.NTP, 20), 13),
    ),
    "state_unit": (
        "Who is aboard.",
        UnitState(61_000, NOW, "A7", "v1204", ("bls", "bariatric"), ("p17", "p18"), "p17"),
    ),
    "state_destination": (
        "Where it goes.",
        DestinationState(61_000, NOW, "bmc", Utc(UTC_MS + 600_000, UtcSource.GNSS, None), 5200),
    ),
    "state_vehicle_changes": (
        "Only what changed.",
        VehicleState(61_000, NOW, (("Speed", 0),), complete=False),
    ),
    "state_vehicle": (
        "Signals, one of them not available.",
        VehicleState(61_000, NOW, (("Speed", 41.5), ("LowVoltageSystemState", "ON"), ("X", None))),
    ),
    "state_health": (
        "One reason, a backlog.",
        HealthState(61_000, NOW, ("gnss_no_fix",), (("gnss_no_fix", "no fix for 14 s"),), 120, NOW),
    ),
}

REQUESTS: dict[str, tuple[str, Any]] = {
    "journal_request": ("Two records stood under one number.", JournalRequest(0xDEADBEEF, "two units", "j1")),
    "reply": (
        "The unit has another journal now.",
        Reply("replay", "refused", "r1", "other_journal", "The store was replaced.", 0xC0FFEE, "trail"),
    ),
    "replay_request": ("Ask for 3 to 9 again.", ReplayRequest(Stream.TRAIL, 3, 9, 0xDEADBEEF)),
    "receipt": ("Everything up to 12 is safe.", Receipt(Stream.EVENTS, 12, 0xDEADBEEF)),
}

REQUEST_TOPICS = {
    ReplayRequest: A7.command("replay"),
    JournalRequest: A7.command("new-journal"),
    Receipt: A7.receipt,
    Reply: A7.reply("replay"),
}


def vectors() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each vector as the codec makes it."""
    for name, (text, head, rows) in BATCHES.items():
        yield (
            name,
            {
                "description": text,
                "topic": A7.journal(head.stream),
                "payload_hex": encode_batch(head, rows).payload.hex(),
                "json": json.loads(encode_batch(head, rows, "json").payload),
            },
        )
    for name, (text, state) in STATES.items():
        yield (
            name,
            {
                "description": text,
                "topic": A7.state(state.name),
                "payload_hex": encode_state(state).payload.hex(),
                "json": json.loads(encode_state(state, "json").payload),
            },
        )
    for name, (text, request) in REQUESTS.items():
        yield (
            name,
            {
                "description": text,
                "topic": REQUEST_TOPICS[type(request)],
                "payload_hex": encode_map(request).payload.hex(),
                "json": json.loads(encode_map(request, "json").payload),
            },
        )


VECTORS = dict(vectors())


def test_there_is_a_file_for_each_vector_and_no_other() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(VECTORS)


@pytest.mark.parametrize("name", sorted(VECTORS))
def test_the_codec_still_speaks_as_the_vectors_say(name: str) -> None:
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    made = VECTORS[name]
    for key in ("description", "topic"):
        assert stored[key] == made[key]
    assert as_of(stored["json"], made["json"]) == stored["json"]
    # Deflated bytes may differ between zlib versions; what they inflate to may not.
    assert inflated(bytes.fromhex(stored["payload_hex"])) == inflated(bytes.fromhex(made["payload_hex"]))


@pytest.mark.parametrize("name", sorted(VECTORS))
def test_both_forms_of_a_vector_say_the_same(name: str) -> None:
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    compact, plain = bytes.fromhex(stored["payload_hex"]), json.dumps(stored["json"]).encode()
    if name in BATCHES:
        assert decode_batch(compact, "A7") == decode_batch(plain, "A7")
    elif name in STATES:
        state = STATES[name][1].name
        assert decode_state(state, compact) == decode_state(state, plain) == STATES[name][1]
    else:
        of = type(REQUESTS[name][1])
        assert decode_map(of, compact) == decode_map(of, plain) == REQUESTS[name][1]


@pytest.mark.parametrize("name", sorted(BATCHES))
def test_a_reader_made_from_the_document_alone_reads_the_batches(name: str) -> None:
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    head, records = read_batch(bytes.fromhex(stored["payload_hex"]))
    told = stored["json"]
    assert (head["history"], head["replay"]) == (told["history"], told["replay"])
    for record, one in zip(records, told["records"], strict=True):
        assert head["stream"] == one["stream"]
        assert (head["journal"], head["boot"]) == (one["journal"], one["boot"])
        assert record["seq"] == one["seq"]
        assert record["boottime_ms"] == one["boottime_ms"]
        assert record["utc_uncertainty_ms"] == one["utc_uncertainty_ms"]
        assert (record["utc_ms"] is None) == (one["utc"] is None)
        assert ["none", "last_known", "ntp", "gnss"][record["source"]] == one["utc_source"]
        assert record["kind"] == one["kind_number"]
        if one["kind"] is None:
            continue
        if one["kind"] == "position":
            lat_e7, lon_e7, alt_dm, *_ = record["body"]
            assert lat_e7 / 1e7 == one["data"]["lat_deg"]
            assert lon_e7 / 1e7 == one["data"]["lon_deg"]
            assert (None if alt_dm is None else alt_dm / 10) == one["data"]["alt_m"]
        else:
            assert record["body"][0] == next(iter(one["data"].values()))


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_a_reader_in_javascript_made_from_the_document_alone_reads_every_vector() -> None:
    """[MDT-C-01] [MDT-C-02] [MDT-V-01] [MDT-F-01]"""
    node = shutil.which("node")
    assert node is not None
    decoder = Path(__file__).parent / "javascript" / "decoder.mjs"
    page = FOLDER.parents[2] / "docs" / "wire-format.md"
    out = subprocess.run([node, decoder, FOLDER, page], check=True, capture_output=True, timeout=50).stdout
    told = {one["name"].removesuffix(".json"): one["told"] for one in map(json.loads, out.splitlines())}
    assert set(told) == set(VECTORS)
    for name in VECTORS:
        stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        assert as_of(stored["json"], told[name]) == stored["json"], name


def as_of(then: Any, now: Any) -> Any:
    """What is said now, without the fields that came later: in a vector of before they are null."""
    if isinstance(then, dict) and isinstance(now, dict):
        later = {name for name, value in now.items() if value is None} - then.keys()
        return {name: as_of(then.get(name), value) for name, value in now.items() if name not in later}
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        return [as_of(*pair) for pair in zip(then, now, strict=True)]
    return now


def inflated(payload: bytes) -> bytes:
    return zlib.decompress(payload) if payload[:1] == b"\x78" else payload


def read_batch(payload: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The steps of docs/wire-format.md, with nothing of the codec."""
    payload = inflated(payload)
    assert payload[0] >> 4 == 1
    flags = payload[0] & 15
    boot, at = varint(payload, 5)
    head = {
        "history": bool(flags & 1),
        "replay": bool(flags & 2),
        "stream": "trail" if flags & 8 else "events",
        "journal": int.from_bytes(payload[1:5], "big"),
        "boot": boot,
    }
    if flags & 4:
        seq, at = varint(payload, at)
        tag, at = varint(payload, at)
        boottime_ms, at = varint(payload, at)
        utc, at = varint(payload, at)
        uncertainty, at = varint(payload, at)
        body = []
        while tag >> 3 == 4 and at < len(payload):
            short, at = varint(payload, at)
            body.append(None if short == 0 else (short - 1) // 2 if short % 2 else -short // 2)
        body = body or msgpack.unpackb(payload[at:])
        return head, [
            record(
                seq,
                tag,
                utc - 1 if utc else None,
                boottime_ms,
                uncertainty - 1 if uncertainty else None,
                body,
            )
        ]
    count, stamps, positions, others = msgpack.unpackb(payload[at:])
    seqs, tags, utcs, offsets, uncertainties = (values(column, count) for column in stamps)
    fixes = sum(tag >> 3 == 4 for tag in tags)
    rows = iter(list(zip(*(values(column, fixes) for column in positions), strict=True)))
    rest = iter(others)
    return head, [
        record(seq, tag, utc, offset + (utc or 0), uncertainty, next(rows) if tag >> 3 == 4 else next(rest))
        for seq, tag, utc, offset, uncertainty in zip(seqs, tags, utcs, offsets, uncertainties, strict=True)
    ]


def record(seq: int, tag: int, *stamp_and_body: Any) -> dict[str, Any]:
    utc_ms, boottime_ms, uncertainty, body = stamp_and_body
    return {
        "seq": seq,
        "kind": tag >> 3,
        "source": tag & 7,
        "utc_ms": utc_ms,
        "boottime_ms": boottime_ms,
        "utc_uncertainty_ms": uncertainty,
        "body": list(body),
    }


def varint(payload: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (payload[at] & 127) << shift
        shift += 7
        at += 1
        if payload[at - 1] < 128:
            return value, at


def values(column: Any, count: int) -> list[Any]:
    if not isinstance(column, list):
        return [column] * count
    order, *given = column
    there = [value for value in given if value is not None]
    for _ in range(order):
        there = list(accumulate(there))
    back = iter(there)
    return [None if value is None else next(back) for value in given]


def write_vectors() -> None:
    """Write every vector's file."""
    for name, vector in VECTORS.items():
        text = json.dumps(vector, indent=1, ensure_ascii=False)
        (FOLDER / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    write_vectors()
