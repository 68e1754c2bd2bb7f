"""Something that begins, lasts and ends, by a value that flickers about its limit. A pure rule."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lasted:
    """An episode that is over.

    Attributes:
        begun_ns: CLOCK_BOOTTIME of its beginning.
        ended_ns: of its end.
        extreme: the value that was farthest.
    """

    begun_ns: int
    ended_ns: int
    extreme: float


class Episode:
    """Opens when a value stays outside for `enter_ns`, and closes when it stays inside for `leave_ns`.

    Both are dated back to their beginning. Fed in the order of time; not thread-safe.

    Attributes:
        is_open: True while it lasts.
        begun_ns: since when; meaningless before.
        extreme: the farthest value so far.
    """

    def __init__(self, enter_ns: int, leave_ns: int) -> None:
        self._enter_ns = enter_ns
        self._leave_ns = leave_ns
        self._outside_ns: int | None = None
        self._inside_ns: int | None = None
        self.is_open = False
        self.begun_ns = 0
        self.extreme = 0.0

    def take(self, how_far: float | None, value: float, at_ns: int) -> Lasted | None:
        """Take a value.

        Args:
            how_far: how far it is outside, above 0; 0 and less is inside; None when it is between the two
                limits of a hysteresis, which changes nothing.
            value: the value itself, for `extreme`.
            at_ns: CLOCK_BOOTTIME.

        Returns:
            The episode, when it is over.
        """
        if how_far is None:
            return None
        if how_far > 0:
            self._outside(value, at_ns)
            return None
        self._outside_ns = None
        if not self.is_open:
            return None
        self._inside_ns = at_ns if self._inside_ns is None else self._inside_ns
        return self.close(self._inside_ns) if at_ns - self._inside_ns >= self._leave_ns else None

    def close(self, at_ns: int) -> Lasted | None:
        """End it now, as when its value is no longer known; None when there is none."""
        was_open, self.is_open = self.is_open, False
        self._outside_ns = self._inside_ns = None
        return Lasted(self.begun_ns, at_ns, self.extreme) if was_open else None

    def _outside(self, value: float, at_ns: int) -> None:
        self._inside_ns = None
        if self._outside_ns is None:
            self._outside_ns = at_ns
            if not self.is_open:
                self.extreme = value
        self.extreme = max(self.extreme, value, key=abs) if self.is_open or self._outside_ns else value
        if not self.is_open and at_ns - self._outside_ns >= self._enter_ns:
            self.is_open, self.begun_ns = True, self._outside_ns
