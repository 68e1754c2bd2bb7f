"""Synthetic receivers of every order, interval and habit, and all that a line can do to what they say.

Each epoch has a position of its own, so that a fix that mixes epochs is seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain.fix import Fix, FixMode
from agent.hal.gnss import NmeaBytes
from agent.sources.gnss.nmea_framing import checksum
from agent.sources.gnss.receiver_decoder import ReceiverDecoder

SOLUTIONS = ("RMC", "GGA", "GNS", "GLL")
UNTIMED = ("GSA", "VTG", "GSV", "ZDA", "GST")
DAY_0 = datetime(2026, 7, 21, tzinfo=UTC)
MS = 1_000_000


@dataclass
class Receiver:
    """How a receiver speaks."""

    interval_ms: int
    order: tuple[str, ...]
    every: dict[str, int]
    """An untimed sentence comes with each n-th epoch only."""
    digits: dict[str, int]
    """Digits behind the point of the time, by sentence."""
    talker: str
    begins_ms: int
    zda_ahead_s: int
    valid: list[bool]
    paused: bool
    """Whether the bytes carry the times of their arrival, or none as in a file."""


@dataclass
class Said:
    """A sentence on its way."""

    epoch: int
    data: bytes
    at_ns: int


@dataclass
class Truth:
    """What a fix may say: UTC in ms to the position of that epoch, None without a fix."""

    of_ms: dict[int, tuple[float, float] | None] = field(default_factory=dict)


def _time(moment: datetime, digits: int) -> tuple[str, datetime]:
    """The time as it is written, cut to its digits, and what that means."""
    cut = moment.replace(microsecond=moment.microsecond // 10 ** (6 - digits) * 10 ** (6 - digits))
    text = f"{cut:%H%M%S}" + (f".{cut.microsecond:06d}"[: digits + 1] if digits else "")
    return text, cut


def _sentence(
    kind: str, moment: datetime, text: str, receiver: Receiver, where: str, *, valid: bool
) -> bytes:
    status = "A" if valid else "V"
    where = where if valid else ",,,"
    zda = moment + timedelta(seconds=receiver.zda_ahead_s)
    body = {
        "RMC": f"RMC,{text},{status},{where},20.0,310.0,{moment:%d%m%y},,",
        "GGA": f"GGA,{text},{where},{int(valid)},07,1.1,12.0,M,-33.0,M,,",
        "GNS": f"GNS,{text},{where},{'AN' if valid else 'NN'},07,1.1,12.0,-33.0,,",
        "GLL": f"GLL,{where},{text},{status}",
        "GSA": f"GSA,A,{3 if valid else 1},04,05,,,,,,,,,,,2.5,1.6,1.9",
        "VTG": "VTG,310.0,T,,M,20.0,N,37.0,K" if valid else "VTG,,T,,M,,N,,K",
        "GSV": "GSV,1,1,01,04,40,080,33",
        "ZDA": f"ZDA,{zda:%H%M%S}.00,{zda:%d,%m,%Y},00,00",
        "GST": f"GST,{text},2.0,,,,1.0,1.0,2.0",
    }[kind]
    body = receiver.talker + body
    return f"${body}*{checksum(body.encode()):02X}\r\n".encode()


def said_by(receiver: Receiver) -> tuple[list[Said], list[dict[int, tuple[float, float] | None]]]:
    """All sentences in order, and for each epoch the times it may be told at with its position."""
    said, truth = [], []
    for epoch, valid in enumerate(receiver.valid):
        moment = DAY_0 + timedelta(milliseconds=receiver.begins_ms + epoch * receiver.interval_ms)
        minutes = 10 + epoch * 0.05
        where = f"42{minutes:07.4f},N,071{minutes:07.4f},W"
        position = (42 + minutes / 60, -71 - minutes / 60) if valid else None
        times: dict[int, tuple[float, float] | None] = {}
        at_ns = epoch * receiver.interval_ms * MS
        for kind in receiver.order:
            if epoch % receiver.every.get(kind, 1):
                continue
            text, told = _time(moment, receiver.digits.get(kind, 2))
            if kind in SOLUTIONS:
                times[round(told.timestamp() * 1000)] = position
            data = _sentence(kind, moment, text, receiver, where, valid=valid)
            at_ns += MS
            said.append(Said(epoch, data, at_ns if receiver.paused else 0))
        truth.append(times)
    return said, truth


@st.composite
def receivers(draw: st.DrawFn) -> Receiver:
    interval_ms = draw(st.sampled_from([40, 100, 200, 250, 500, 1000, 2000]))
    solutions = draw(st.lists(st.sampled_from(SOLUTIONS), min_size=1, unique=True))
    others = draw(st.lists(st.sampled_from(UNTIMED), unique=True))
    order = tuple(draw(st.permutations(solutions + others)))
    # Without RMC a date comes from ZDA only, and it must come before the first epoch is over.
    if "RMC" not in order and "ZDA" not in order:
        order = ("ZDA", *order)
    begins_ms = draw(st.integers(0, 86_399_999 // interval_ms)) * interval_ms + draw(
        st.sampled_from([0, 304, 990]).filter(lambda ms: ms < interval_ms)
    )
    # Cut to tenths, times are off by up to 99 ms: less than half of an interval only from 200 ms on.
    digits = st.sampled_from([2, 3] if interval_ms <= 200 else [1, 2, 3])
    return Receiver(
        interval_ms=interval_ms,
        order=order,
        every={kind: draw(st.sampled_from([1, 1, 2, 5])) for kind in others if kind != "ZDA"},
        digits={kind: draw(digits) for kind in solutions},
        talker=draw(st.sampled_from(["GP", "GN"])),
        begins_ms=begins_ms,
        zda_ahead_s=draw(st.sampled_from([0, 0, 2])),
        valid=draw(st.lists(st.booleans(), min_size=4, max_size=14)),
        paused=draw(st.booleans()) and interval_ms >= 500,
    )


def heard(said: list[Said], sizes: list[int] | None = None) -> list[Fix]:
    """What the decoder makes of it, a sentence a read or cut into reads of these sizes."""
    decoder = ReceiverDecoder()
    fixes: list[Fix] = []
    for number, one in enumerate(said):
        data = one.data
        if sizes:
            cut = sizes[number % len(sizes)]
            fixes += decoder.feed(NmeaBytes(data[:cut], one.at_ns))
            data = data[cut:]
        fixes += decoder.feed(NmeaBytes(data, one.at_ns))
    return fixes + decoder.finish()


def position(fix: Fix) -> tuple[float, float] | None:
    if fix.lat_deg is None or fix.lon_deg is None:
        return None
    return round(fix.lat_deg, 7), round(fix.lon_deg, 7)


def rounded(place: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if place is None else (round(place[0], 7), round(place[1], 7))


@settings(max_examples=120, deadline=None)
@given(receivers(), st.lists(st.integers(1, 70), min_size=1, max_size=5))
def test_each_epoch_of_each_receiver_is_one_fix_with_its_own_time_and_place(
    receiver: Receiver, sizes: list[int]
) -> None:
    said, truth = said_by(receiver)
    fixes = heard(said, sizes)
    assert len(fixes) == len(truth), receiver.order
    for fix, times in zip(fixes, truth, strict=True):
        assert fix.utc_ms in times
        assert position(fix) == rounded(times[fix.utc_ms])


@st.composite
def mangled(draw: st.DrawFn) -> tuple[Receiver, list[Said]]:
    """A receiver, and what arrives after drops, repetitions, delays and shuffling within an epoch."""
    receiver = draw(receivers())
    said, _ = said_by(receiver)
    if draw(st.booleans()):
        by_epoch = [[one for one in said if one.epoch == epoch] for epoch in range(len(receiver.valid))]
        said = [one for epoch in by_epoch for one in draw(st.permutations(epoch))]
    arriving: list[tuple[int, int, Said]] = []
    for number, one in enumerate(said):
        for _ in range(draw(st.sampled_from([1, 1, 1, 1, 0, 2]))):
            arriving.append((number + draw(st.sampled_from([0, 0, 0, 0, 1, 3, 8])), len(arriving), one))
    arriving.sort(key=lambda item: item[:2])
    newest_ns = 0
    result = []
    for _, _, one in arriving:
        newest_ns = max(newest_ns, one.at_ns)
        result.append(Said(one.epoch, one.data, newest_ns))
    return receiver, result


@settings(max_examples=200, deadline=None)
@given(mangled())
def test_whatever_the_line_does_no_fix_has_the_place_of_another_time(
    case: tuple[Receiver, list[Said]],
) -> None:
    receiver, arriving = case
    _, truth = said_by(receiver)
    places = {ms: place for times in truth for ms, place in times.items()}
    for fix in heard(arriving):
        if fix.has_position and fix.utc_ms is not None:
            assert fix.utc_ms in places
            assert position(fix) == rounded(places[fix.utc_ms])
        assert (fix.mode is FixMode.NONE) == (fix.lat_deg is None)


@settings(max_examples=60, deadline=None)
@given(receivers(), st.sampled_from([-300, -700, 300]))
def test_a_clock_that_is_corrected_costs_no_position(receiver: Receiver, by_ms: int) -> None:
    """From the middle on all times are others; as with a receiver that found its time."""
    if abs(by_ms) >= receiver.interval_ms:
        return
    receiver.valid = [True] * 8
    receiver.every = {}
    first, _ = said_by(receiver)
    half = len(first) // 2
    receiver.begins_ms += by_ms
    later, _ = said_by(receiver)
    fixes = heard(first[:half] + later[half:])
    assert len({position(fix) for fix in fixes if fix.has_position}) == 8
