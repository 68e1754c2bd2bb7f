"""Deriving UTC from boot time: no single source and no single epoch is believed against all others."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from heapq import heappushpop

from agent.domain.date_floor import DateFloor
from agent.domain.stamp import Stamp, Utc, UtcSource

GNSS_ARRIVAL_MS = 500
"""A receiver at 9600 baud tells an epoch up to half a second late."""
GNSS_EPOCH_MS = 100
"""How well a believed epoch's own time is known: receivers round it, some cut it."""
GNSS_HOLD_NS = 3_600 * 1_000_000_000
"""How long the last GNSS time is preferred to the network's: a Pi's crystal drifts under 0.2 s in it."""
DRIFT_PPM = 50
WINDOW_NS = 300 * 1_000_000_000
"""A crystal that is 50 ppm off moves by 15 ms in it."""
AGREES_MS = 950
"""Two successive epochs that agree differ by less: by how late they arrive, but not by a leap second."""
FIRST_EPOCHS = 3
"""So many epochs in a row must agree before a receiver's time is believed at all."""
JUMP_EPOCHS = 8
JUMP_NS = 5 * 1_000_000_000
"""So many epochs, over so long a time, must agree before a time is believed that contradicts what was."""
NTP_JUMP_LOOKS = 3
"""So many looks must agree before a step of the synchronised clock is believed."""
DISAGREE_MS = 1_000
"""NTP and GNSS that differ by more than this and what they admit contradict each other."""
WRONG_DATE_MS = 600_000
"""Beyond, the receiver's date is at fault, of which there are many kinds, and the network is believed."""
LATE_MS = 60_000
"""An epoch that is read so much later than it was told may still have waited for us."""
SLEEP_ERROR_MS = 2_000
"""How far boot time may be off by a sleep: a clock chip is read before and after it, in whole seconds."""
_BEST = 3


class TimeDoubt(StrEnum):
    """Why time is not as good as it could be."""

    GNSS_DATE = "gnss_date"
    """The receiver tells a date that can not be; it is put right by whole periods, or not used."""
    CONTRADICTION = "contradiction"
    """GNSS and NTP differ by more than either admits."""


@dataclass(frozen=True, slots=True)
class Jump:
    """A time that was believed in this boot gave way to another.

    Attributes:
        boottime_ns: when the new one was believed.
        by_ms: how far the UTC of one and the same moment moved.
    """

    boottime_ns: int
    by_ms: int


class _Window:
    """The offset of UTC to boot time over some minutes of epochs.

    An epoch is always received after it happened, so the largest offset is nearest to the truth; but the
    third largest, so that a single early stamp or two move nothing.
    """

    def __init__(self, offset_ms: int, began_ns: int) -> None:
        self.began_ns = began_ns
        self._largest = [offset_ms]

    @classmethod
    def of(cls, offsets_ms: list[int], began_ns: int) -> _Window:
        """A window that begins with several epochs."""
        window = cls(offsets_ms[0], began_ns)
        for offset_ms in offsets_ms[1:]:
            window.add(offset_ms)
        return window

    def add(self, offset_ms: int) -> None:
        """Take one more epoch."""
        if len(self._largest) < _BEST:
            self._largest.append(offset_ms)
            self._largest.sort()
        else:
            heappushpop(self._largest, offset_ms)

    @property
    def best_ms(self) -> int:
        """The third largest; of fewer the smallest, which claims least."""
        return min(self._largest)


class _Chain:
    """Epochs of a receiver, each of which agrees with the one before it."""

    def __init__(self, offset_ms: int, at_ns: int) -> None:
        self.began_ns = at_ns
        self.at_ns = at_ns
        self.epochs = 1
        self.recent_ms = deque([offset_ms], maxlen=JUMP_EPOCHS)

    def agrees(self, offset_ms: int, at_ns: int) -> bool:
        """True when an epoch may follow: it arrived earlier or later than the last, but not by a second."""
        drift_ms = abs(at_ns - self.at_ns) * DRIFT_PPM // 1_000_000_000_000
        return abs(offset_ms - self.recent_ms[-1]) <= AGREES_MS + drift_ms

    def add(self, offset_ms: int, at_ns: int) -> None:
        """Take an epoch that agrees."""
        if at_ns > self.at_ns:
            self.epochs += 1
        self.at_ns = at_ns
        self.recent_ms.append(offset_ms)


class GnssTime:
    """Relation of boot time and the receiver's UTC, as far as it is believed. Not thread-safe."""

    def __init__(self) -> None:
        self._believed: _Chain | None = None
        self._candidate: _Chain | None = None
        self._window: _Window | None = None
        self._shown_ms = 0
        self._slept = False
        self.jump: Jump | None = None
        """The newest, None while the receiver never contradicted itself for long."""

    @property
    def offset_ms(self) -> int | None:
        """UTC less boot time; None while not enough epochs agree."""
        return None if self._window is None else self._shown_ms

    @property
    def slept(self) -> bool:
        """Whether the computer slept since the newest epochs that are believed."""
        return self._slept

    def sleep_over(self) -> None:
        """The computer slept: the next epochs need not agree with those before."""
        self._slept = self._believed is not None
        self._candidate = None

    @property
    def at_ns(self) -> int:
        """Boot time of the newest epoch that is believed."""
        return 0 if self._believed is None else self._believed.at_ns

    def learn(self, offset_ms: int, at_ns: int) -> bool:
        """Take an epoch's offset. True when it agrees with what is believed."""
        if not self._slept and self._believed is not None and self._believed.agrees(offset_ms, at_ns):
            self._candidate = None
            self._believed.add(offset_ms, at_ns)
            self._follow(self._believed)
            return True
        if self._candidate is None or not self._candidate.agrees(offset_ms, at_ns):
            self._candidate = _Chain(offset_ms, at_ns)
        else:
            self._candidate.add(offset_ms, at_ns)
        return self._convinced(self._candidate)

    def believe(self, offset_ms: int, at_ns: int) -> None:
        """Take an offset without asking, such as one that an earlier run believed in this boot."""
        self._believed, self._slept = _Chain(offset_ms, at_ns), False
        self._window, self._shown_ms = _Window(offset_ms, at_ns), offset_ms

    def _convinced(self, candidate: _Chain) -> bool:
        first = self._believed is None or self._slept
        if candidate.epochs < (FIRST_EPOCHS if first else JUMP_EPOCHS):
            return False
        if not first and candidate.at_ns - candidate.began_ns < JUMP_NS:
            return False
        before_ms, slept = self._shown_ms, self._slept
        self._believed, self._candidate, self._slept = candidate, None, False
        self._window = _Window.of(list(candidate.recent_ms), candidate.began_ns)
        self._shown_ms = self._window.best_ms
        if not first or (slept and abs(self._shown_ms - before_ms) > SLEEP_ERROR_MS):
            self.jump = Jump(candidate.at_ns, self._shown_ms - before_ms)
        return True

    def _follow(self, chain: _Chain) -> None:
        window = self._window
        if window is None:
            return
        window.add(chain.recent_ms[-1])
        best_ms = window.best_ms
        # Within the window only better; at its end whatever the window found, better or not.
        self._shown_ms = max(self._shown_ms, best_ms)
        if chain.at_ns - window.began_ns > WINDOW_NS:
            self._shown_ms = best_ms
            self._window = _Window(chain.recent_ms[-1], chain.at_ns)


class TimeBase:
    """Relation of boot time and UTC within one boot. Not thread-safe.

    Args:
        floor: which dates can be; every date as it comes when None.
        replay: believe each epoch as it comes: for recordings that are played faster than life, whose seconds
            are not those of boot time.
    """

    def __init__(self, floor: DateFloor | None = None, *, replay: bool = False) -> None:
        self._floor = floor or DateFloor()
        self._replay = replay
        self._gnss = GnssTime()
        self._gnss_date = ""
        self._judged_ms: int | None = None
        self._system: Utc | None = None
        self._system_at_ns = 0
        self._ntp_offset_ms: int | None = None
        self._ntp_looks = 0
        self._system_slept = False

    @property
    def floor(self) -> DateFloor:
        """Which dates can be."""
        return self._floor

    def learn_gnss(self, utc_ms: int, received_boottime_ns: int) -> bool:
        """Take the UTC of an epoch with a fix. True when it agrees with what is believed by now."""
        judged = self._floor.judge(utc_ms)
        self._gnss_date, self._judged_ms = judged.why, judged.utc_ms
        if judged.utc_ms is None:
            return False
        offset_ms = judged.utc_ms - received_boottime_ns // 1_000_000
        if self._replay:
            self._gnss.believe(offset_ms, received_boottime_ns)
            return True
        return self._gnss.learn(offset_ms, received_boottime_ns)

    def learn_stored(self, utc: Utc, boottime_ns: int) -> None:
        """Take the pedigreed UTC of a record of this boot, after the agent was restarted within it."""
        if utc.source is UtcSource.GNSS and self._gnss.offset_ms is None:
            self._gnss.believe(utc.unix_ms - boottime_ns // 1_000_000, boottime_ns)

    def learn_system(self, unix_ms: int, *, synchronised: bool, max_error_ms: int, boottime_ns: int) -> None:
        """Take what the system clock says. A date that can not be is none, whoever vouches for it."""
        if not self._floor.possible(unix_ms):
            if not self._is_ntp:
                self._system = None
            return
        if not synchronised:
            if self._is_ntp and abs(boottime_ns - self._system_at_ns) <= GNSS_HOLD_NS:
                return  # what the network said a while ago is better than a clock that nobody disciplines
            self._system, self._system_at_ns = Utc(unix_ms, UtcSource.LAST_KNOWN, None), boottime_ns
            self._ntp_offset_ms, self._ntp_looks = None, 0
            return
        offset_ms = unix_ms - boottime_ns // 1_000_000
        before_ms = self._ntp_offset_ms
        self._ntp_offset_ms = offset_ms
        jumped = before_ms is not None and abs(offset_ms - before_ms) > DISAGREE_MS + max_error_ms
        self._ntp_looks = 1 if jumped else self._ntp_looks + 1
        if self._is_ntp and self._ntp_looks < NTP_JUMP_LOOKS and self._moves(offset_ms, max_error_ms):
            return
        self._system, self._system_at_ns = Utc(unix_ms, UtcSource.NTP, max_error_ms), boottime_ns
        self._system_slept = False

    def sleep_over(self) -> None:
        """The computer slept: until sources have spoken again, time is less certain than it was."""
        self._gnss.sleep_over()
        self._system_slept = self._is_ntp

    @property
    def jump(self) -> Jump | None:
        """The newest change of mind about GNSS time in this boot."""
        return self._gnss.jump

    def doubts(self, boottime_ns: int) -> dict[TimeDoubt, str]:
        """What is doubtful at this moment, with a sentence for a person."""
        doubts = {TimeDoubt.GNSS_DATE: self._gnss_date} if self._gnss_date else {}
        if (apart_ms := self._contradiction_ms(boottime_ns)) is not None:
            word = "ahead of" if apart_ms > 0 else "behind"
            doubts[TimeDoubt.CONTRADICTION] = f"GNSS is {abs(apart_ms) / 1000:.1f} s {word} NTP"
        return doubts

    def source(self, boottime_ns: int) -> UtcSource:
        """The source that `stamp` would use at this moment."""
        utc = self.utc(boottime_ns)
        return UtcSource.NONE if utc is None else utc.source

    def utc(self, boottime_ns: int) -> Utc | None:
        """UTC of a moment of this boot, past or present; None while nothing is known."""
        gnss, system = self._of_gnss(boottime_ns), self._of_system(boottime_ns)
        if gnss is None or system is None or system.source is not UtcSource.NTP:
            return gnss or system
        if abs(boottime_ns - self._gnss.at_ns) > GNSS_HOLD_NS:
            return system
        apart_ms = self._contradiction_ms(boottime_ns)
        if apart_ms is None:
            return gnss
        if abs(apart_ms) > WRONG_DATE_MS:
            return system
        # Either may be right: what is told covers both.
        return Utc(gnss.unix_ms, gnss.source, (gnss.uncertainty_ms or 0) + abs(apart_ms))

    def stamp(self, boottime_ns: int) -> Stamp:
        """A stamp for an event at this boot time."""
        return Stamp(boottime_ns, self.utc(boottime_ns))

    def take_epoch(self, utc_ms: int, received_boottime_ns: int) -> Stamp:
        """Learn from an epoch with a fix, and stamp it: with its own time where that can be true."""
        agrees = self.learn_gnss(utc_ms, received_boottime_ns)
        derived, judged_ms = self.utc(received_boottime_ns), self._judged_ms
        if derived is None or derived.source is not UtcSource.GNSS or judged_ms is None:
            return Stamp(received_boottime_ns, derived)
        if agrees:
            apart_ms = self._contradiction_ms(received_boottime_ns) or 0
            return _stamp(received_boottime_ns, judged_ms, GNSS_EPOCH_MS + abs(apart_ms))
        late_ms = derived.unix_ms - judged_ms
        if 0 < late_ms <= LATE_MS:
            # It waited in a buffer, or the receiver errs: what is told covers both.
            return _stamp(received_boottime_ns, judged_ms, late_ms + (derived.uncertainty_ms or 0))
        return Stamp(received_boottime_ns, derived)

    @property
    def _is_ntp(self) -> bool:
        return self._system is not None and self._system.source is UtcSource.NTP

    def _moves(self, offset_ms: int, max_error_ms: int) -> bool:
        """True when a look would move the time that the system clock stands for."""
        if self._system is None:
            return False
        stands_ms = self._system.unix_ms - self._system_at_ns // 1_000_000
        return abs(offset_ms - stands_ms) > DISAGREE_MS + max_error_ms

    def _of_gnss(self, boottime_ns: int) -> Utc | None:
        if self._gnss.offset_ms is None:
            return None
        drift_ms = _drift_ms(boottime_ns - self._gnss.at_ns)
        unix_ms = boottime_ns // 1_000_000 + self._gnss.offset_ms
        slept_ms = SLEEP_ERROR_MS if self._gnss.slept else 0
        return Utc(unix_ms, UtcSource.GNSS, GNSS_ARRIVAL_MS + drift_ms + slept_ms)

    def _of_system(self, boottime_ns: int) -> Utc | None:
        if self._system is None:
            return None
        passed_ns = boottime_ns - self._system_at_ns
        uncertainty_ms = self._system.uncertainty_ms
        if uncertainty_ms is not None:
            uncertainty_ms += _drift_ms(passed_ns) + (SLEEP_ERROR_MS if self._system_slept else 0)
        unix_ms = self._system.unix_ms + passed_ns // 1_000_000
        return Utc(unix_ms, self._system.source, uncertainty_ms)

    def _contradiction_ms(self, boottime_ns: int) -> int | None:
        """GNSS less NTP where they contradict each other, else None."""
        gnss, system = self._of_gnss(boottime_ns), self._of_system(boottime_ns)
        if gnss is None or system is None or system.source is not UtcSource.NTP:
            return None
        apart_ms = gnss.unix_ms - system.unix_ms
        admitted_ms = (gnss.uncertainty_ms or 0) + (system.uncertainty_ms or 0)
        return apart_ms if abs(apart_ms) > DISAGREE_MS + admitted_ms else None


def _stamp(boottime_ns: int, unix_ms: int, uncertainty_ms: int) -> Stamp:
    return Stamp(boottime_ns, Utc(unix_ms, UtcSource.GNSS, uncertainty_ms))


def _drift_ms(passed_ns: int) -> int:
    return abs(passed_ns) * DRIFT_PPM // 1_000_000_000_000
