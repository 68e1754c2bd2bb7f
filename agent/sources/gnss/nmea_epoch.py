"""The sentences of one epoch become one fix, as early as the receiver's habits allow."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from agent.domain.fix import Fix, FixMode
from agent.hal.gnss import NmeaBytes
from agent.sources.gnss.nmea_framing import Frame, NmeaFramer, Rejection
from agent.sources.gnss.nmea_sentence import Sentence, parse

MS_PER_DAY = 86_400_000
GPS_ROLLOVER_DAYS = 1024 * 7
IDLE_GAP_NS = 200_000_000
"""A receiver that says nothing for this long has finished its epoch."""
IDLE_GAP_MAX_NS = 800_000_000
STALE_MS = 2000
LEARN_EPOCHS = 3
"""So many epochs in a row must end with the same sentence before its arrival is taken as the end."""


@dataclass(slots=True)
class _Epoch:
    """What the sentences of one epoch said so far."""

    received_boottime_ns: int
    time_of_day_ms: int | None = None
    day: int | None = None
    has_full_year: bool = False
    valid: dict[str, bool] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    last: str = ""
    lat_deg: float | None = None
    lon_deg: float | None = None
    alt_m: float | None = None
    speed_mps: float | None = None
    course_deg: float | None = None
    mode: FixMode | None = None
    satellites: int | None = None
    hdop: float | None = None

    def is_over_at(self, sentence: Sentence) -> bool:
        """True when `sentence` must be of a later epoch."""
        if not sentence.is_timed:
            return False
        if sentence.time_of_day_ms is None or self.time_of_day_ms is None:
            # Before the receiver knows the time, the same sentence again tells that a new epoch began.
            return sentence.talker + sentence.type in self.seen
        return sentence.time_of_day_ms != self.time_of_day_ms

    def add(self, sentence: Sentence) -> None:
        """Merge; a later sentence fills what is still unknown."""
        name = sentence.talker + sentence.type
        self.seen[name] += 1
        self.last = f"{name}{self.seen[name]}"
        if self.time_of_day_ms is None:
            self.time_of_day_ms = sentence.time_of_day_ms
        if sentence.day is not None and (self.day is None or sentence.has_full_year):
            self.day = sentence.day
        self._add_solution(sentence)
        if self.alt_m is None:
            self.alt_m = sentence.alt_m
        # RMC and VTG agree; where they do not, the speed comes with the position it belongs to.
        if self.speed_mps is None or sentence.type == "RMC":
            self.speed_mps = sentence.speed_mps
            self.course_deg = sentence.course_deg
        if self.hdop is None:
            self.hdop = sentence.hdop
        if sentence.satellites is not None:
            # One sentence a constellation, or GGA, which stops counting at 12: the largest is nearest.
            self.satellites = max(self.satellites or 0, sentence.satellites)
        if sentence.mode is not None:
            # One GSA a constellation: those that are not used say "no fix".
            self.mode = max(self.mode or FixMode.NONE, sentence.mode)

    def _add_solution(self, sentence: Sentence) -> None:
        """Validity and position. GN is the common solution and outranks those of single constellations."""
        if sentence.valid is None:
            return
        common = sentence.talker == "GN"
        known = self.valid.get(sentence.type)
        if common or known is None:
            self.valid[sentence.type] = sentence.valid
        elif "GN" + sentence.type not in self.seen:
            self.valid[sentence.type] = known or sentence.valid
        if sentence.lat_deg is not None and (common or self.lat_deg is None):
            self.lat_deg, self.lon_deg = sentence.lat_deg, sentence.lon_deg

    @property
    def has_fix(self) -> bool:
        """No sentence type says that there is none, and there is a position."""
        return self.lat_deg is not None and all(self.valid.values()) and self.mode is not FixMode.NONE


class EpochAssembler:
    """Merges sentences into fixes.

    An epoch is over when a sentence with another time arrives, when the receiver pauses, or at once with
    the sentence that the receiver was seen to end its epochs with. What arrives later for an epoch that is
    over is dropped, and the habit is learned anew.

    Args:
        not_before_day: days since 1970-01-01 before which no true date can lie; a receiver whose week counter
            rolled over is put right by whole periods of 1024 weeks. 0 takes every date as it comes.
    """

    def __init__(self, not_before_day: int = 0) -> None:
        self._not_before_day = not_before_day
        self._open: _Epoch | None = None
        self._closed_time_ms: int | None = None
        self._last = ""
        self._repeats = 0
        self._day: int | None = None
        self._day_time_ms = 0
        self.idle_gap_ns = IDLE_GAP_NS

    @property
    def is_open(self) -> bool:
        """True while an epoch waits for its end."""
        return self._open is not None

    def accept(self, sentence: Sentence, received_boottime_ns: int) -> list[Fix]:
        """Take a sentence; return the fixes of the epochs that are over by it, none, one or two."""
        fixes: list[Fix] = []
        if self._is_stale(sentence):
            return []
        if self._open is not None and self._open.is_over_at(sentence):
            fixes += self._close(learn=True)
        if self._open is None or self._open.time_of_day_ms is None:
            time_ms = sentence.time_of_day_ms
            if time_ms is not None and time_ms == self._closed_time_ms:
                self._was_late()
                return fixes
        if self._open is None:
            self._open = _Epoch(received_boottime_ns)
        if sentence.is_timed and self._open.time_of_day_ms is None and not self._open.valid:
            # Untimed sentences in front may be stragglers of the last epoch: they do not set the arrival.
            self._open.received_boottime_ns = received_boottime_ns
        self._open.add(sentence)
        if self._repeats >= LEARN_EPOCHS and self._open.last == self._last and self._open.valid:
            fixes += self._close(learn=False)
        return fixes

    def idle(self) -> list[Fix]:
        """The receiver paused, or the recording is over: the open epoch is over."""
        if self._open is None:
            return []
        if not self._open.valid and self._repeats >= LEARN_EPOCHS:
            # Untimed sentences after what was taken as the end: it was not.
            self._repeats = 0
        return self._close(learn=bool(self._open.valid))

    def _close(self, *, learn: bool) -> list[Fix]:
        epoch, self._open = self._open, None
        if epoch is None:
            return []
        if learn:
            self._repeats = self._repeats + 1 if epoch.last == self._last else 1
            self._last = epoch.last
        if epoch.time_of_day_ms is not None:
            self._closed_time_ms = epoch.time_of_day_ms
        utc_ms = self._utc_ms(epoch)
        return [_fix(epoch, utc_ms)] if epoch.valid else []

    def _is_stale(self, sentence: Sentence) -> bool:
        """True for a sentence of an epoch before the newest: time must not go back and forth."""
        newest_ms = self._closed_time_ms
        if self._open is not None and self._open.time_of_day_ms is not None:
            newest_ms = self._open.time_of_day_ms
        if newest_ms is None or sentence.time_of_day_ms is None:
            return False
        # Further back than that, the receiver has changed its mind about the time.
        return 0 < (newest_ms - sentence.time_of_day_ms) % MS_PER_DAY <= STALE_MS

    def _was_late(self) -> None:
        self._repeats = 0
        self.idle_gap_ns = min(self.idle_gap_ns * 2, IDLE_GAP_MAX_NS)

    def _unrolled(self, day: int) -> int:
        """A date of the receiver, put right by whole periods of 1024 weeks."""
        short_by = max(0, self._not_before_day - day)
        if self._day is not None:
            # A counter that rolls over while we listen: the day before, the same or the next, long ago.
            periods, rest = divmod(self._day - day + 1, GPS_ROLLOVER_DAYS)
            if rest <= 2:  # noqa: PLR2004  # one day to either side
                short_by = max(short_by, periods * GPS_ROLLOVER_DAYS)
        return day + -(-short_by // GPS_ROLLOVER_DAYS) * GPS_ROLLOVER_DAYS

    def _utc_ms(self, epoch: _Epoch) -> int | None:
        time_ms = epoch.time_of_day_ms
        if time_ms is None:
            return None
        if epoch.day is not None:
            self._day = self._unrolled(epoch.day)
        elif self._day is not None and time_ms < self._day_time_ms - MS_PER_DAY // 2:
            self._day += 1  # midnight passed since the receiver last told the date
        self._day_time_ms = time_ms
        return None if self._day is None else self._day * MS_PER_DAY + time_ms


def _fix(epoch: _Epoch, utc_ms: int | None) -> Fix:
    if not epoch.has_fix:
        # Receivers go on to print the last altitude, speed and course; without a fix they mean nothing.
        return Fix(
            utc_ms=utc_ms,
            lat_deg=None,
            lon_deg=None,
            alt_m=None,
            speed_mps=None,
            course_deg=None,
            mode=FixMode.NONE,
            satellites=epoch.satellites,
            hdop=None,
            received_boottime_ns=epoch.received_boottime_ns,
        )
    return Fix(
        utc_ms=utc_ms,
        lat_deg=epoch.lat_deg,
        lon_deg=epoch.lon_deg,
        alt_m=epoch.alt_m,
        speed_mps=epoch.speed_mps,
        course_deg=epoch.course_deg,
        # Without GSA, a height tells a fix in three dimensions.
        mode=epoch.mode or (FixMode.FIX_2D if epoch.alt_m is None else FixMode.FIX_3D),
        satellites=epoch.satellites,
        hdop=epoch.hdop,
        received_boottime_ns=epoch.received_boottime_ns,
    )


class NmeaDecoder:
    """Bytes to fixes, without a clock and without waiting: a function of bytes and the times they carry.

    Attributes:
        sentences: number of sentences received with a right checksum.
        rejections: number of rejections by reason.
    """

    def __init__(self, not_before_day: int = 0) -> None:
        self._framer = NmeaFramer()
        self._assembler = EpochAssembler(not_before_day)
        self._received_boottime_ns: int | None = None
        self.sentences = 0
        self.rejections: Counter[Rejection] = Counter()

    @property
    def idle_gap_s(self) -> float | None:
        """How long to wait for more bytes before `idle` is due; None while no epoch is open."""
        return self._assembler.idle_gap_ns / 1e9 if self._assembler.is_open else None

    def feed(self, chunk: NmeaBytes) -> list[Fix]:
        """Take what one read of the receiver gave; return the fixes that it completed."""
        now_ns, before_ns = chunk.received_boottime_ns, self._received_boottime_ns
        fixes: list[Fix] = []
        if before_ns is not None and now_ns - before_ns >= self._assembler.idle_gap_ns:
            fixes += self.idle()
        self._received_boottime_ns = now_ns
        for frame in self._framer.feed(chunk.data, now_ns):
            fixes += self._take(frame)
        return fixes

    def idle(self) -> list[Fix]:
        """The receiver paused for `idle_gap_s`: return the fix that was waiting for its end, if any."""
        return self._assembler.idle()

    def finish(self) -> list[Fix]:
        """The recording is over: return what was waiting."""
        fixes: list[Fix] = []
        for frame in self._framer.finish():
            fixes += self._take(frame)
        return fixes + self.idle()

    def _take(self, frame: Frame | Rejection) -> list[Fix]:
        if isinstance(frame, Rejection):
            self.rejections[frame] += 1
            return []
        self.sentences += 1
        sentence = parse(frame.body)
        if isinstance(sentence, Rejection):
            self.rejections[sentence] += 1
            return []
        if sentence is None:
            return []
        if sentence.bad_fields:
            self.rejections[Rejection.BAD_FIELD] += 1
        return self._assembler.accept(sentence, frame.received_boottime_ns)
