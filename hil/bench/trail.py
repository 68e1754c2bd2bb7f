"""Records of a simulated shift, as the daemon would have made them: positions with noise, stops and turns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

from agent.domain.record import Draft, Position, StatusChange
from agent.domain.reporting import position_of
from agent.domain.stamp import Stamp, Utc, UtcSource
from agent.hal.gnss import NmeaBytes
from agent.outbox.entry import Entry, entry_of
from agent.outbox.store import Store
from agent.sources.gnss.receiver_decoder import ReceiverDecoder
from hil.bench.setting import NotHereError
from hil.drive.items import NmeaItem
from hil.drive.shift import Options, load_shift

DRIVE = "boston_demo"
SEED = 1
FILL_COMMIT = 5_000
SECOND_NS = 1_000_000_000
RECORDED = Path(__file__).parents[2].parent / "shared" / "feeds" / "nmea_drives" / "geko_regensburg_2010.nmea"
UPTIME_MS = 9 * 86_400_000
"""Of a computer that was started nine days ago."""


def nmea_sentences() -> list[bytes]:
    """What the receiver said over the shift, sentence by sentence."""
    shift = load_shift(DRIVE, SEED, Options(can_hz_scale=0))
    return [item.data for item in shift.items() if isinstance(item, NmeaItem)]


def positions() -> list[Draft]:
    """A position a second of the shift, through the decoder that the daemon uses."""
    shift = load_shift(DRIVE, SEED, Options(can_hz_scale=0))
    return _decoded((item.data, item.t_ns) for item in shift.items() if isinstance(item, NmeaItem))


def recorded_positions() -> list[Draft]:
    """Every position of a recorded drive, as if read when it was true. Raises NotHereError."""
    if not RECORDED.exists():
        raise NotHereError(f"{RECORDED.name} is not beside the checkout")
    lines = RECORDED.read_bytes().splitlines(keepends=True)
    found = _decoded((line, number * SECOND_NS // 10) for number, line in enumerate(lines))
    times_ms = [draft.stamp.utc.unix_ms for draft in found if draft.stamp.utc is not None]
    return [
        Draft(Stamp((utc_ms - times_ms[0]) * 1_000_000, draft.stamp.utc), draft.body)
        for draft, utc_ms in zip(found, times_ms, strict=True)
    ]


def _decoded(sentences: Iterable[tuple[bytes, int]]) -> list[Draft]:
    decoder = ReceiverDecoder()
    drafts = []
    for data, received_ns in sentences:
        for fix in decoder.feed(NmeaBytes(data, received_ns)):
            position = position_of(fix)
            if position is not None and fix.utc_ms is not None:
                stamp = Stamp(fix.received_boottime_ns, Utc(fix.utc_ms, UtcSource.GNSS, 0))
                drafts.append(Draft(stamp, position))
    return drafts


def drafts(count: int) -> Iterator[Draft]:
    """`count` positions a second apart: the shift, over and over."""
    shift = positions()
    begun = shift[0].stamp
    assert begun.utc is not None
    for number, draft in enumerate(islice(cycle(shift), count)):
        jitter_ns = draft.stamp.boottime_ns % SECOND_NS
        utc = replace(begun.utc, unix_ms=begun.utc.unix_ms + 1000 * number)
        yield Draft(Stamp(begun.boottime_ns + number * SECOND_NS + jitter_ns, utc), draft.body)


def moving_positions(count: int) -> list[Draft]:
    """`count` positions in a row of a vehicle under way."""
    under_way = [draft for draft in positions() if _speed_mps(draft) > 3.0]
    return under_way[:count]


def _speed_mps(draft: Draft) -> float:
    return draft.body.speed_mps or 0.0 if isinstance(draft.body, Position) else 0.0


def press(number: int, boottime_ns: int) -> Draft:
    """A status press."""
    status, previous = ("on_scene", "en_route") if number % 2 else ("en_route", "on_scene")
    return Draft(Stamp(boottime_ns), StatusChange(status, previous, status, number, 1))


def fill(folder: Path, count: int, *, boot_id: str) -> None:
    """Make a store in `folder` in which `count` positions wait."""
    store = Store(folder, synchronous="OFF")
    store.open(boot_id)
    try:
        entries: list[Entry] = []
        for draft in drafts(count):
            entries.append(entry_of(draft))
            if len(entries) == FILL_COMMIT:
                _append(store, entries)
                entries = []
        _append(store, entries)
        store.file.checkpoint()
    finally:
        store.close()


def _append(store: Store, entries: list[Entry]) -> None:
    if entries:
        store.append(entries)
    if store.file.checkpoint_due:
        store.file.checkpoint()
