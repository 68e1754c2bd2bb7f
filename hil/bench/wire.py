"""Bytes that a position takes on the air, in a batch and alone."""

from __future__ import annotations

import importlib
import json
import random
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from agent.domain.record import Draft, Position, Stream
from agent.outbox.entry import entry_of
from agent.wire.codec import BatchHeader, encode_batch
from agent.wire.row import Row
from hil.bench.figure import Figure, Target
from hil.bench.setting import NotHereError, Setting
from hil.bench.trail import UPTIME_MS, positions, recorded_positions

BATCH = 60
LIVE_TARGET = Target(45, at_most=True)
BATCH_TARGET = Target(12, at_most=True)
FIRST_SEQ = 3_000_000
"""Of a vehicle whose store has been in use for a month."""
JOURNAL = 0xC0FFEE42
BOOT = 217
UNCERTAINTY_MS = 300
READ_JITTER_MS = 4
"""By so much the moment of reading varies on a computer that does other things as well."""
PEER = "JSON, every field named"
ZLIB_LEVEL, ZSTD_LEVEL = 6, 3
DEFLATE_TIMES = 50


def measure(setting: Setting) -> list[Figure]:
    """Payload bytes a position over a whole drive, standing times included, in MQTT's payload alone."""
    figures = _measure(setting, "wire", "a simulated shift", positions())
    try:
        return figures + _measure(setting, "wire.recorded", "a recorded drive", recorded_positions())
    except NotHereError as reason:
        setting.say(f"wire.recorded: {reason}")
        return figures


def _measure(setting: Setting, name: str, of_what: str, drive: list[Draft]) -> list[Figure]:
    dice = random.Random(1)
    rows = [_row(seq, draft, dice) for seq, draft in enumerate(drive, FIRST_SEQ)]
    setting.say(f"{name}: {len(rows)} positions of {of_what}")
    header = BatchHeader("A1", Stream.TRAIL, JOURNAL, BOOT)
    full = [rows[at : at + BATCH] for at in range(0, len(rows) - BATCH + 1, BATCH)]
    batched = [len(encode_batch(header, batch).payload) / BATCH for batch in full]
    live = max(len(encode_batch(header, [row]).payload) for row in rows)
    objects = [_json(named_fields(draft)) for draft in drive]
    json_bytes = sum(map(len, objects)) / len(objects)
    mean = sum(batched) / len(batched)
    largest = max(map(len, objects))
    return [
        Figure(f"{name}.batch_of_60", mean, "bytes a position", PEER, json_bytes, BATCH_TARGET),
        Figure(f"{name}.batch_of_60.worst", max(batched), "bytes a position", PEER, json_bytes),
        Figure(f"{name}.live", live, "bytes, the largest", PEER, largest, LIVE_TARGET),
        *_deflated(name, [zlib.decompress(encode_batch(header, batch).payload) for batch in full]),
    ]


def _deflated(name: str, batches: list[bytes]) -> list[Figure]:
    """What zstd would make of the same bytes."""
    try:
        zstd = importlib.import_module("zstandard").ZstdCompressor(level=ZSTD_LEVEL)
    except ImportError:
        return []
    ours = _size_and_us(lambda batch: zlib.compress(batch, ZLIB_LEVEL), batches)
    peers = _size_and_us(zstd.compress, batches)
    peer = f"zstd {ZSTD_LEVEL}"
    return [
        Figure(f"{name}.deflate", ours[0], "bytes a position", peer, peers[0]),
        Figure(f"{name}.deflate.cpu", ours[1], "us of CPU a position", peer, peers[1]),
    ]


def _size_and_us(compress: Callable[[bytes], bytes], batches: list[bytes]) -> tuple[float, float]:
    positions = BATCH * len(batches)
    begun = time.process_time()
    for _ in range(DEFLATE_TIMES):
        for batch in batches:
            compress(batch)
    us = (time.process_time() - begun) * 1e6 / (DEFLATE_TIMES * positions)
    return sum(len(compress(batch)) for batch in batches) / positions, us


def named_fields(draft: Draft) -> dict[str, Any]:
    """A position the way most trackers send it: one object, every field by its name."""
    position, stamp = draft.body, draft.stamp
    assert isinstance(position, Position)
    assert stamp.utc is not None
    return {
        "unit": "A1",
        "ts": stamp.utc.unix_ms,
        "uptime_ms": stamp.boottime_ns // 1_000_000,
        **{name: value for name, value in asdict(position).items() if value is not None},
    }


def _json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _row(seq: int, draft: Draft, dice: random.Random) -> Row:
    entry = entry_of(draft)
    read_ms = UPTIME_MS + entry.boottime_ms + dice.randrange(READ_JITTER_MS + 1)
    return Row(seq, entry.kind, BOOT, read_ms, *entry[2:])._replace(utc_uncertainty_ms=UNCERTAINTY_MS)
