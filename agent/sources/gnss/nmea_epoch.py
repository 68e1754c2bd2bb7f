"""The sentences of one epoch become one fix, as early as the receiver's habits allow.

docs/gnss.md states the model: what opens an epoch, what closes it, what may contradict what, what is learned.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from agent.domain.fix import Fix, FixMode
from agent.sources.gnss.sentence import Sentence

MS_PER_DAY = 86_400_000
IDLE_GAP_NS = 200_000_000
"""A receiver that says nothing for this long has finished its epoch."""
IDLE_GAP_MAX_NS = 800_000_000
SAME_EPOCH_MS = 20
"""Two times nearer than this are of one epoch, while the interval of the epochs is not known yet."""
OTHER_TALKER_MS = 100
"""Two constellations of one epoch may write its time with other decimals, and differ by less."""
LONGEST_INTERVAL_MS = 10_000
LEARN_EPOCHS = 3
"""So many epochs in a row must end with the same sentence before its arrival is taken as the end."""
LEARN_EPOCHS_MAX = 48
MODE_HOLDS_MS = 10_000
"""How long a GSA speaks for the epochs after it: some receivers send one every few seconds."""
SENTENCES_MAX = 48
"""No receiver says more in an epoch; one that repeats itself for ever must not fill the memory."""
EPOCHS_REMEMBERED = 64
STEPS_REMEMBERED = 32
_NAMES_MAX = 64
_RANK = {"GGA": 4, "GNS": 4, "RMC": 2, "GLL": 0}
"""Whose position and time count where the sentences of an epoch differ: RMC may lag by a whole epoch."""


def _ahead_ms(later_ms: int, earlier_ms: int) -> int:
    """How far a time of day is ahead of another, between half a day back and half a day ahead."""
    return (later_ms - earlier_ms + MS_PER_DAY // 2) % MS_PER_DAY - MS_PER_DAY // 2


class _Epoch:
    """The sentences of one epoch so far."""

    __slots__ = (
        "is_judged",
        "last_count",
        "last_name",
        "names",
        "received_boottime_ns",
        "sentences",
        "since_solution",
        "times_ms",
        "types",
    )

    def __init__(self, received_boottime_ns: int) -> None:
        self.received_boottime_ns = received_boottime_ns
        self.sentences: list[Sentence] = []
        self.names: dict[str, int] = {}
        self.types: set[str] = set()
        self.times_ms: list[int] = []
        self.since_solution: list[str] = []
        """Types of the sentences after the newest solution."""
        self.last_name, self.last_count = "", 0
        """The newest sentence, and how often there was one of that name."""
        self.is_judged = False
        """True once a sentence said whether there is a position."""

    def holds(self, sentence: Sentence, nearer_than_ms: float) -> bool:
        """True when a solution may be of this epoch."""
        time_ms = sentence.time_of_day_ms
        if time_ms is None or not self.times_ms:
            # Before the receiver knows the time, the same sentence again tells that a new epoch began.
            return sentence.name not in self.names
        if time_ms in self.times_ms:
            return True
        # A receiver may round the time in one sentence and not in the other; it says nothing twice.
        return sentence.name not in self.names and abs(_ahead_ms(time_ms, self.times_ms[0])) < nearer_than_ms

    def add(self, sentence: Sentence) -> None:
        """Take one more sentence."""
        name = sentence.name
        self.last_name = name
        self.last_count = self.names[name] = self.names.get(name, 0) + 1
        if len(self.sentences) < SENTENCES_MAX:
            self.sentences.append(sentence)
        if sentence.is_solution:
            self.types.add(sentence.type)
            if self.since_solution:
                self.since_solution.clear()
            self.is_judged = self.is_judged or sentence.valid is not None
            time_ms = sentence.time_of_day_ms
            if time_ms is not None and time_ms not in self.times_ms:
                self.times_ms.append(time_ms)
        elif len(self.since_solution) < SENTENCES_MAX:
            self.since_solution.append(sentence.type)


class _Solution(NamedTuple):
    """What the solutions of an epoch say together.

    A solution without a time may be older, so that it is heard only where none has a time. What is left must
    agree: one that says "no position" is enough, but of one type the common solution (talker GN) speaks for
    the single constellations, and of those one that has a position is enough.
    """

    best: Sentence
    has_position: bool

    @classmethod
    def of(cls, epoch: _Epoch) -> _Solution:
        judged = [sentence for sentence in epoch.sentences if sentence.valid is not None]
        judged = [sentence for sentence in judged if sentence.time_of_day_ms is not None] or judged
        placed = [one for one in judged if one.lat_deg is not None]
        best = max(placed or judged, key=_rank)
        if len(placed) == len(judged) or all(one.valid for one in judged):
            return cls(best, bool(placed))
        common: dict[str, bool] = {}
        single: dict[str, bool] = {}
        for one in judged:
            if one.talker == "GN":
                common[one.type] = common.get(one.type, True) and one.valid is True
            else:
                single[one.type] = single.get(one.type, False) or one.valid is True
        return cls(best, bool(placed) and all((single | common).values()))


def _rank(solution: Sentence) -> int:
    return _RANK[solution.type] + (solution.name[:2] == "GN")


class _Habits:
    """What is learned of one receiver: its interval, the order of its sentences, how its epochs end."""

    def __init__(self) -> None:
        self._time_of: dict[str, int] = {}
        self._steps_ms: deque[int] = deque(maxlen=STEPS_REMEMBERED)
        self.nearer_than_ms: float = SAME_EPOCH_MS
        """Times nearer than this are of one epoch: half of the shortest interval there was of late."""
        self._comes_before: dict[str, set[str]] = {}
        self._ending_name, self._ending_count = "", 0
        self._repeats = 0
        self._learn_epochs = LEARN_EPOCHS
        self.idle_gap_ns = IDLE_GAP_NS

    def paused(self) -> None:
        """A receiver that can pause has longer intervals than its pause, if nothing better is known."""
        if not self._steps_ms:
            self.nearer_than_ms = IDLE_GAP_NS / 1e6 / 2

    def saw(self, solution: Sentence) -> bool:
        """Learn the interval. True when a sentence came again with a new time: an interval is known."""
        time_ms, name = solution.time_of_day_ms, solution.name
        if time_ms is None:
            return False
        if len(self._time_of) >= _NAMES_MAX:
            self._time_of.clear()
        before_ms, self._time_of[name] = self._time_of.get(name), time_ms
        # The talker goes by the constellations in use, and may change from one epoch to the next.
        newest_ms, self._time_of[solution.type] = self._time_of.get(solution.type), time_ms
        if (
            newest_ms != before_ms
            and newest_ms is not None
            and _ahead_ms(time_ms, newest_ms) >= OTHER_TALKER_MS
        ):
            before_ms = newest_ms
        if before_ms is None or before_ms == time_ms:
            return False
        if 0 < (step_ms := _ahead_ms(time_ms, before_ms)) <= LONGEST_INTERVAL_MS:
            steps = self._steps_ms
            forgotten_ms = steps[0] if len(steps) == STEPS_REMEMBERED else None
            steps.append(step_ms)
            if step_ms != forgotten_ms:
                self.nearer_than_ms = min(steps) / 2
        return True

    def precede(self, types: list[str], solution: Sentence) -> None:
        """Learn that sentences without a time stand in front of a solution in the same epoch."""
        for one in types:
            self._comes_before.setdefault(one, set()).add(solution.type)

    def leads(self, sentence: Sentence, epoch: _Epoch) -> bool:
        """True when a sentence without a time must be of the epoch that follows `epoch`."""
        before = self._comes_before.get(sentence.type)
        return before is not None and not epoch.types.isdisjoint(before)

    def ended(self, epoch: _Epoch) -> None:
        """An epoch was seen to be over: learn what ended it."""
        ending = epoch.last_name, epoch.last_count
        self._repeats = self._repeats + 1 if ending == (self._ending_name, self._ending_count) else 1
        self._ending_name, self._ending_count = ending

    def ends(self, epoch: _Epoch) -> bool:
        """True when the epoch is over with its newest sentence."""
        return (
            epoch.last_name == self._ending_name
            and epoch.last_count == self._ending_count
            and self._repeats >= self._learn_epochs
            and epoch.is_judged
        )

    def were_wrong(self, *, solution: bool) -> None:
        """More came after what was taken as the end. For a `solution` we wait longer from now on."""
        self._repeats = 0
        if solution:
            self._learn_epochs = min(self._learn_epochs * 2, LEARN_EPOCHS_MAX)
            self.idle_gap_ns = min(self.idle_gap_ns * 2, IDLE_GAP_MAX_NS)


class _Calendar:
    """Gives epochs their dates, which not every sentence tells."""

    def __init__(self) -> None:
        self._told_ms: int | None = None
        self._newest_ms: int | None = None

    def tell(self, zda: Sentence) -> None:
        """Take a date with a full year, and the time that it is of."""
        if zda.day is not None and zda.time_of_day_ms is not None:
            self._told_ms = zda.day * MS_PER_DAY + zda.time_of_day_ms

    def utc_ms(self, time_ms: int | None, epoch: _Epoch) -> int | None:
        """The UTC of an epoch: by ZDA, else by its own RMC, else by the epoch before."""
        if time_ms is None:
            return None
        near_ms = self._told_ms
        self._told_ms = None
        if near_ms is None:
            near_ms = _dated_ms(epoch.sentences)
            if near_ms is None:
                near_ms = self._newest_ms
        if near_ms is not None:
            self._newest_ms = near_ms + _ahead_ms(time_ms, near_ms)
        return None if near_ms is None else self._newest_ms


def _dated_ms(sentences: list[Sentence]) -> int | None:
    for one in sentences:
        if one.day is not None and one.is_solution and one.time_of_day_ms is not None:
            return one.day * MS_PER_DAY + one.time_of_day_ms
    return None


class EpochAssembler:
    """Merges the sentences of one receiver into fixes; docs/gnss.md has the model in words."""

    def __init__(self) -> None:
        self._habits = _Habits()
        self._calendar = _Calendar()
        self._held: list[tuple[Sentence, int]] | None = []
        """Everything, until the interval of the epochs is known or the receiver pauses; then None."""
        self._front: list[Sentence] = []
        """Sentences without a time that wait for the epoch that they stand in front of."""
        self._open: _Epoch | None = None
        self._closed: _Epoch | None = None
        self._seen_ms: dict[int, None] = {}
        """Times of the newest epochs, in the order in which they were closed."""
        self._late_ms: int | None = None
        self._paused = True
        self._mode: tuple[FixMode, int] | None = None

    @property
    def idle_gap_ns(self) -> int:
        """A pause of this length ends an epoch."""
        return self._habits.idle_gap_ns

    @property
    def is_open(self) -> bool:
        """True while an epoch waits for its end."""
        return self._open is not None or bool(self._held)

    def accept(self, sentence: Sentence, received_boottime_ns: int) -> list[Fix]:
        """Take a sentence; return the fixes of the epochs that are over by it, oldest first."""
        if self._held is not None:
            self._held.append((sentence, received_boottime_ns))
            begins_anew = sentence.is_solution and (
                sentence.time_of_day_ms is None or self._habits.saw(sentence)
            )
            return self._release() if begins_anew or len(self._held) >= SENTENCES_MAX else []
        if sentence.is_solution:
            return self._take_solution(sentence, received_boottime_ns)
        return self._take_companion(sentence)

    def idle(self) -> list[Fix]:
        """The receiver paused, or the recording is over: the open epoch is over."""
        self._habits.paused()
        fixes = self._release() if self._held else []
        if self._front and not self._paused:
            # Sentences without a time after what was taken as the end: it was not.
            self._habits.were_wrong(solution=False)
        self._front.clear()
        self._paused = True
        return fixes + self._close(learn=True)

    def _release(self) -> list[Fix]:
        held, self._held = self._held or [], None
        return [fix for sentence, at_ns in held for fix in self.accept(sentence, at_ns)]

    def _take_companion(self, sentence: Sentence) -> list[Fix]:
        if sentence.day is not None:
            self._calendar.tell(sentence)
        if self._open is None or self._habits.leads(sentence, self._open):
            if len(self._front) < SENTENCES_MAX:
                self._front.append(sentence)
            return []
        self._open.add(sentence)
        return self._close(learn=False) if self._habits.ends(self._open) else []

    def _take_solution(self, solution: Sentence, received_boottime_ns: int) -> list[Fix]:
        self._habits.saw(solution)
        fixes: list[Fix] = []
        if self._open is not None and self._open.holds(solution, self._habits.nearer_than_ms):
            if self._open.since_solution:
                self._habits.precede(self._open.since_solution, solution)
        elif self._is_late(solution):
            return []
        else:
            fixes = self._close(learn=True)
            self._open = self._begin(solution, received_boottime_ns)
        epoch = self._open
        epoch.add(solution)
        self._late_ms = None
        self._paused = False
        return fixes + self._close(learn=False) if self._habits.ends(epoch) else fixes

    def _begin(self, solution: Sentence, received_boottime_ns: int) -> _Epoch:
        # What stands in front may be stragglers of the last epoch: it does not set the arrival.
        epoch = _Epoch(received_boottime_ns)
        for one in self._front:
            epoch.add(one)
        self._front.clear()
        if self._paused:
            self._habits.precede(epoch.since_solution, solution)
        return epoch

    def _close(self, *, learn: bool) -> list[Fix]:
        epoch, self._open = self._open, None
        if epoch is None:
            return []
        if learn:
            self._habits.ended(epoch)
        self._closed = epoch
        self._remember(epoch.times_ms)
        if not epoch.is_judged:
            return []
        solution = _Solution.of(epoch)
        time_ms = solution.best.time_of_day_ms
        utc_ms = self._calendar.utc_ms(time_ms, epoch)
        mode = self._mode_of(epoch, time_ms)
        return [_fix(epoch, solution, utc_ms, mode)]

    def _remember(self, times_ms: list[int]) -> None:
        seen = self._seen_ms
        for time_ms in times_ms:
            seen.pop(time_ms, None)
            seen[time_ms] = None
        while len(seen) > EPOCHS_REMEMBERED:
            del seen[next(iter(seen))]

    def _is_late(self, solution: Sentence) -> bool:
        """True for a repetition and for what comes after its epoch was closed: its time was seen before."""
        time_ms, closed = solution.time_of_day_ms, self._closed
        if time_ms is None:
            return False
        of_closed = (
            closed is not None
            and bool(closed.times_ms)
            and closed.holds(solution, self._habits.nearer_than_ms)
        )
        if not of_closed and time_ms not in self._seen_ms:
            return False
        if self._late_ms is not None and 0 < _ahead_ms(time_ms, self._late_ms) <= LONGEST_INTERVAL_MS:
            # Time runs on through what was seen: the receiver set its clock back.
            self._seen_ms.clear()
            return False
        self._late_ms = time_ms
        if of_closed and closed is not None and solution.name not in closed.names:
            self._habits.were_wrong(solution=True)
        return True

    def _mode_of(self, epoch: _Epoch, time_ms: int | None) -> FixMode | None:
        """2D or 3D by the epoch's own GSA, else by one shortly before; None where nobody says.

        One GSA a constellation: those that are not used say "no fix". As it has no time, it may also be
        older, and does not contradict the solutions.
        """
        modes = [sentence.mode for sentence in epoch.sentences if sentence.mode is not None]
        mode = max(modes) if modes else FixMode.NONE
        if mode is not FixMode.NONE and time_ms is not None:
            self._mode = mode, time_ms
        if mode is FixMode.NONE and self._mode is not None and time_ms is not None:
            held, held_ms = self._mode
            if 0 <= _ahead_ms(time_ms, held_ms) <= MODE_HOLDS_MS:
                return held
        return None if mode is FixMode.NONE else mode


def _fix(epoch: _Epoch, solution: _Solution, utc_ms: int | None, mode: FixMode | None) -> Fix:
    said = epoch.sentences
    # One sentence a constellation, or GGA, which stops counting at 12: the largest is nearest.
    counted = [one.satellites for one in said if one.satellites is not None]
    satellites = max(counted) if counted else None
    if not solution.has_position:
        # Receivers go on to print the last altitude, speed and course; without a fix they mean nothing.
        return Fix.without_position(utc_ms, satellites, epoch.received_boottime_ns)
    best = solution.best
    alt_m, hdop, error_m, motion = best.alt_m, None, None, None
    for one in said:
        if alt_m is None:
            alt_m = one.alt_m
        if hdop is None:
            hdop = one.hdop
        if error_m is None:
            error_m = one.error_m
        # RMC and VTG agree; where they do not, RMC's speed comes with a position and a time.
        if one.speed_mps is not None and (motion is None or (one.type == "RMC" and motion.type != "RMC")):
            motion = one
    return Fix(
        utc_ms=utc_ms,
        lat_deg=best.lat_deg,
        lon_deg=best.lon_deg,
        alt_m=alt_m,
        speed_mps=None if motion is None else motion.speed_mps,
        course_deg=None if motion is None else motion.course_deg,
        # Without GSA, a height tells a fix in three dimensions.
        mode=mode or (FixMode.FIX_2D if alt_m is None else FixMode.FIX_3D),
        satellites=satellites,
        hdop=hdop,
        received_boottime_ns=epoch.received_boottime_ns,
        error_m=error_m,
    )
