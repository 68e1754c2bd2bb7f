"""A bound on what machines make of buttons: contacts that chatter, boxes that flood, numbers that jump."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

_S: Final = 1_000_000_000

TAPS_AT_ONCE: Final = 10
TAP_EVERY_NS: Final = 1 * _S
"""Records that the presses of one key may make: ten as fast as fingers are, then one a second."""

AGAIN_AT_ONCE: Final = 30
AGAIN_EVERY_NS: Final = 30 * _S
"""Records of an alarm that is raised already and pressed again."""

QUIET_NS: Final = 2 * _S
LONGEST_QUIET_NS: Final = 60 * _S
"""A key that chatters is heard again once it was left alone for this; doubled with each relapse."""

RELAPSE_NS: Final = 600 * _S

PANEL_AT_ONCE: Final = 500
PANEL_EVERY_NS: Final = 2 * _S
"""Records of all keys together, by when they arrive: a box may send what it kept for hours at once."""

TOLD_EVERY_NS: Final = 600 * _S
"""One alert of a kind in this time; what comes in between is counted and told by the next."""

NOISE_EDGES: Final = 30
NOISE_WITHIN_NS: Final = 2 * _S
"""So many downs and ups of one key in so short a time come from no finger."""
NOISE_COUNT: Final = 15
NOISE_COUNT_NS: Final = 600 * _S
"""A key whose panel counts so many bounces or lost edges in so long a time has a worn contact."""
NOISE_KEYS: Final = 64
"""Keys that are watched: a box may invent names."""
NOISE_HELD_NS: Final = 60 * _S
"""A key that was noisy counts as such for so long after it last was."""


class Heard(Enum):
    """What becomes of a press that would make a record."""

    TAKEN = "taken"
    """It makes it."""
    CHATTER_BEGINS = "chatter_begins"
    """It is left out, as the first of many."""
    CHATTER = "chatter"
    """It is left out, as others before it."""


@dataclass(slots=True)
class _Bucket:
    most: int
    every_ns: int
    left: float
    at_ns: int | None = None

    def take(self, at_ns: int) -> bool:
        if self.at_ns is not None:
            self.left = min(float(self.most), self.left + max(0, at_ns - self.at_ns) / self.every_ns)
        self.at_ns = at_ns if self.at_ns is None else max(at_ns, self.at_ns)
        if self.left < 1:
            return False
        self.left -= 1
        return True


@dataclass(slots=True)
class _Key:
    taps: _Bucket = field(default_factory=lambda: _Bucket(TAPS_AT_ONCE, TAP_EVERY_NS, TAPS_AT_ONCE))
    again: _Bucket = field(default_factory=lambda: _Bucket(AGAIN_AT_ONCE, AGAIN_EVERY_NS, AGAIN_AT_ONCE))
    touched_ns: int | None = None
    chatters: bool = False
    quiet_ns: int = 0
    began_ns: int = 0


class PressLimit:
    """Decides which presses make records. Used from one thread.

    Two times are looked at: when a press was made, as its device says, so that presses that a box kept are
    not taken for chatter; and when it arrived, because a device can say what it likes.
    """

    def __init__(self) -> None:
        self._keys: dict[str, _Key] = {}
        self._panel = _Bucket(PANEL_AT_ONCE, PANEL_EVERY_NS, PANEL_AT_ONCE)

    def touch(self, key: str, at_ns: int) -> None:
        """Take note of a press, whether or not it would make a record."""
        state = self._keys.setdefault(key, _Key())
        if state.chatters and at_ns - (state.touched_ns or 0) >= state.quiet_ns:
            state.chatters = False
        state.touched_ns = at_ns

    def hear(self, key: str, at_ns: int, now_ns: int, *, again: bool = False) -> Heard:
        """Whether a press that was just touched, and would make a record, makes it.

        Args:
            key: a key of the configuration; their number is the bound of what is remembered here.
            at_ns: CLOCK_BOOTTIME of the press.
            now_ns: CLOCK_BOOTTIME of its arrival.
            again: the press says once more what holds already.
        """
        state = self._keys.setdefault(key, _Key())
        if state.chatters:
            return Heard.CHATTER
        taps = state.again if again else state.taps
        if taps.take(at_ns) and self._panel.take(now_ns):
            return Heard.TAKEN
        relapsed = state.quiet_ns and at_ns - state.began_ns < RELAPSE_NS
        state.quiet_ns = min(2 * state.quiet_ns, LONGEST_QUIET_NS) if relapsed else QUIET_NS
        state.began_ns, state.chatters = at_ns, True
        return Heard.CHATTER_BEGINS


class ToldSeldom:
    """Counts what must be told, and says when: the first at once, then with its count now and then."""

    def __init__(self) -> None:
        self._count = 0
        self._told_ns: int | None = None

    def add(self, number: int) -> None:
        """Count `number` more."""
        self._count += number

    def due(self, now_ns: int) -> int:
        """How many must be told now, which is then done; 0 for nothing."""
        if not self._count or (self._told_ns is not None and now_ns - self._told_ns < TOLD_EVERY_NS):
            return 0
        count, self._count, self._told_ns = self._count, 0, now_ns
        return count


class KeyNoise:
    """Which keys have a contact or a wire that needs mending, whatever they mean. Used from one thread.

    A key is noisy that moves faster than fingers can, and one whose panel says that it bounces, or that its
    edges get lost.
    """

    def __init__(self) -> None:
        self._moved: dict[str, deque[int]] = {}
        self._counts: dict[str, tuple[int, int]] = {}
        """Of each key what was counted at the beginning of its time, and when that was."""
        self._noisy_ns: dict[str, int] = {}

    def edge(self, key: str, at_ns: int, now_ns: int) -> None:
        """A key went down or up; a box may tell of it long after."""
        if key not in self._moved and len(self._moved) >= NOISE_KEYS:
            return
        moved = self._moved.setdefault(key, deque(maxlen=NOISE_EDGES))
        moved.append(at_ns)
        if len(moved) == NOISE_EDGES and 0 <= at_ns - moved[0] <= NOISE_WITHIN_NS:
            self._noisy_ns[key] = now_ns

    def counted(self, noise: Mapping[str, int], now_ns: int) -> None:
        """What the panel itself has counted by now, looked at every second or so."""
        for key, count in noise.items():
            before, since_ns = self._counts.setdefault(key, (0, now_ns))
            if count - before >= NOISE_COUNT:
                self._noisy_ns[key] = now_ns
            elif now_ns - since_ns < NOISE_COUNT_NS:
                continue
            self._counts[key] = (count, now_ns)

    def noisy(self, now_ns: int) -> tuple[str, ...]:
        """Keys that are noisy now, sorted."""
        for key in [key for key, at_ns in self._noisy_ns.items() if now_ns - at_ns >= NOISE_HELD_NS]:
            del self._noisy_ns[key]
        return tuple(sorted(self._noisy_ns))
