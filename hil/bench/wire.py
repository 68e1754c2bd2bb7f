"""Bytes that a position takes on the air, in a batch and alone."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from typing import Any

from agent.domain.record import Draft, Position, Stream
from agent.outbox.entry import entry_of
from agent.outbox.row import Row
from agent.uplink.codec import BatchHeader, encode_batch
from hil.bench.figure import Figure, Target
from hil.bench.setting import Setting
from hil.bench.trail import positions

BATCH = 60
LIVE_TARGET = Target(45, at_most=True)
BATCH_TARGET = Target(12, at_most=True)
FIRST_SEQ = 48_000
"""Of a vehicle that has been on duty for half a day."""
JOURNAL = 0xC0FFEE42
BOOT = 117
READ_JITTER_MS = 4
"""By so much the moment of reading varies on a computer that does other things as well."""
PEER = "JSON, every field named"


def measure(setting: Setting) -> list[Figure]:
    """Payload bytes a position over a whole shift, standing times included, in MQTT's payload alone."""
    shift = positions()
    dice = random.Random(1)
    rows = [_row(seq, draft, dice) for seq, draft in enumerate(shift, FIRST_SEQ)]
    setting.say(f"wire: {len(rows)} positions of a simulated shift")
    header = BatchHeader("A1", Stream.TRAIL, JOURNAL, BOOT)
    full = [rows[at : at + BATCH] for at in range(0, len(rows) - BATCH + 1, BATCH)]
    batched = sum(len(encode_batch(header, batch).payload) for batch in full) / (len(full) * BATCH)
    live = max(len(encode_batch(header, [row]).payload) for row in rows)
    objects = [_json(named_fields(draft)) for draft in shift]
    json_bytes = sum(map(len, objects)) / len(objects)
    return [
        Figure("wire.batch_of_60", batched, "bytes a position", PEER, json_bytes, BATCH_TARGET),
        Figure("wire.live", live, "bytes, the largest", PEER, max(map(len, objects)), LIVE_TARGET),
    ]


def named_fields(draft: Draft) -> dict[str, Any]:
    """A position the way most trackers send it: one object, every field by its name."""
    position, stamp = draft.body, draft.stamp
    assert isinstance(position, Position)
    assert stamp.utc is not None
    return {
        "unit": "A1",
        "ts": stamp.utc.unix_ms,
        "uptime_ms": stamp.boottime_ns // 1_000_000,
        **asdict(position),
    }


def _json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _row(seq: int, draft: Draft, dice: random.Random) -> Row:
    entry = entry_of(draft)
    read_ms = entry.boottime_ms + dice.randrange(READ_JITTER_MS + 1)
    return Row(seq, entry.kind, BOOT, read_ms, *entry[2:])
