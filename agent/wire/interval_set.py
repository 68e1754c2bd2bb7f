"""A set of whole numbers kept as intervals: its size follows the number of holes, not of records."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class IntervalSet:
    """Disjoint intervals, both ends included, ascending. Not thread-safe."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def __len__(self) -> int:
        """Number of intervals."""
        return len(self._firsts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._firsts, self._lasts, strict=True)))

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self._lasts[at]

    def count(self, start: int | None = None) -> int:
        """How many numbers from `start` on are in the set."""
        at = 0 if start is None else bisect_left(self._lasts, start)
        cut = 0 if start is None or at == len(self) else max(0, start - self._firsts[at])
        return sum(self._lasts[at:]) - sum(self._firsts[at:]) + len(self) - at - cut

    def add(self, first: int, last: int) -> None:
        """Put in `first` to `last`; joins what touches."""
        if first > last:
            return
        low = bisect_left(self._lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first = min(first, self._firsts[low])
            last = max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]

    def remove(self, first: int, last: int) -> int:
        """Take out `first` to `last`; returns how many of them were in the set."""
        if first > last:
            return 0
        low = bisect_left(self._lasts, first)
        high = bisect_right(self._firsts, last)
        taken = 0
        kept: list[tuple[int, int]] = []
        for one_first, one_last in zip(self._firsts[low:high], self._lasts[low:high], strict=True):
            taken += min(one_last, last) - max(one_first, first) + 1
            kept += [(one_first, first - 1)] if one_first < first else []
            kept += [(last + 1, one_last)] if one_last > last else []
        self._firsts[low:high] = [one_first for one_first, _ in kept]
        self._lasts[low:high] = [one_last for _, one_last in kept]
        return taken

    def first_from(self, number: int) -> tuple[int, int] | None:
        """The lowest interval at or above `number`, cut off below it; None when there is none."""
        at = bisect_left(self._lasts, number)
        return None if at == len(self._firsts) else (max(number, self._firsts[at]), self._lasts[at])

    def last_through(self, number: int) -> int | None:
        """The highest number in the set that is not above `number`."""
        at = bisect_right(self._firsts, number) - 1
        return None if at < 0 else min(number, self._lasts[at])

    def pop_lowest(self) -> tuple[int, int]:
        """Take out the lowest interval. Raises IndexError when empty."""
        return self._firsts.pop(0), self._lasts.pop(0)
