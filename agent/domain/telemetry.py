"""When vehicle signals become a telemetry record, and what is true of the vehicle now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agent.domain.record import SignalValue, Telemetry
from agent.domain.vehicle import Signal

EDGES_AT_ONCE = 10
"""Changes of one signal that may each make a record in a row: a door that slams, a siren's tones."""
EDGE_REFILL_NS = 10_000_000_000
"""In the long run one such record in this time: a contact that chatters must not fill the store."""


class TelemetryPolicy:
    """Collects signals; gives a record of the changed ones every interval. Not thread-safe.

    A change of a switch or a word (a door, the siren) makes a record of its own at once, so that none between
    two intervals is lost. One that chatters is held to the interval again once it has spent its budget.

    A signal that is not heard for its age becomes None: a door that was closed when the bus fell silent may
    be open by now.

    Args:
        interval_s: least time between records.
        stale_after_s: age at which a value is no longer known.
        stale_after_s_of: ages of single signals by name, such as of messages that are sent only on a change.
        on_change: whether each change makes a record, by name, where it is not as the value's kind has it.
    """

    def __init__(
        self,
        interval_s: float,
        stale_after_s: float = 10,
        stale_after_s_of: Mapping[str, float] | None = None,
        on_change: Mapping[str, bool] | None = None,
    ) -> None:
        self._interval_ns = round(interval_s * 1e9)
        self._stale_after_ns = round(stale_after_s * 1e9)
        self._stale_after_ns_of = {
            name: round(age_s * 1e9) for name, age_s in (stale_after_s_of or {}).items()
        }
        self._values: dict[str, SignalValue | None] = {}
        self._heard_ns: dict[str, int] = {}
        self._reported: dict[str, SignalValue | None] = {}
        self._next_due_ns: int | None = None
        self._on_change = dict(on_change or {})
        self._edges: list[tuple[int, Telemetry]] = []
        self._spent: dict[str, tuple[float, int]] = {}

    def take(self, signals: Iterable[Signal]) -> bool:
        """Take decoded signals, oldest first. True when any value is another than before."""
        changed = False
        for signal in signals:
            name = signal.name
            if name not in self._values or not _same(self._values[name], signal.value):
                changed = True
                if self._is_edge(signal):
                    self._reported[name] = signal.value
                    self._edges.append((signal.received_boottime_ns, Telemetry(((name, signal.value),))))
                self._values[name] = signal.value
            self._heard_ns[name] = signal.received_boottime_ns
        return changed

    def edges(self) -> list[tuple[int, Telemetry]]:
        """(CLOCK_BOOTTIME, record) of each change since the last call that is told at once, oldest first."""
        edges, self._edges = self._edges, []
        return edges

    def _is_edge(self, signal: Signal) -> bool:
        before = self._values.get(signal.name)
        if before is None or signal.value is None:
            return False  # became known or unknown: that is told with the rest
        if not self._on_change.get(signal.name, isinstance(signal.value, bool | str)):
            return False
        spent, at_ns = self._spent.get(signal.name, (0.0, signal.received_boottime_ns))
        spent = max(0.0, spent - (signal.received_boottime_ns - at_ns) / EDGE_REFILL_NS)
        may = spent + 1 <= EDGES_AT_ONCE
        self._spent[signal.name] = (spent + may, signal.received_boottime_ns)
        return may

    def expire(self, now_boottime_ns: int) -> bool:
        """Forget values not heard for their age. True when any was forgotten."""
        expired = [
            name
            for name, heard_ns in self._heard_ns.items()
            if self._values[name] is not None
            and now_boottime_ns - heard_ns > self._stale_after_ns_of.get(name, self._stale_after_ns)
        ]
        for name in expired:
            self._values[name] = None
        return bool(expired)

    def due(self, now_boottime_ns: int, *, at_once: bool = False) -> Telemetry | None:
        """A record when the interval has passed (or `at_once`) and something changed, else None.

        The interval counts from when the last record was due, not from when it was asked for, so that an
        asker who is a little late does not shift every later record. After a pause the grid starts anew.
        """
        self.expire(now_boottime_ns)
        if self._next_due_ns is not None and now_boottime_ns < self._next_due_ns and not at_once:
            return None
        changed = tuple(
            (name, value)
            for name, value in sorted(self._values.items())
            if name not in self._reported or not _same(self._reported[name], value)
        )
        if not changed:
            return None
        self._reported.update(changed)
        following = None if self._next_due_ns is None else self._next_due_ns + self._interval_ns
        late = following is None or following <= now_boottime_ns
        self._next_due_ns = now_boottime_ns + self._interval_ns if late else following
        return Telemetry(signals=changed)

    def snapshot(self) -> tuple[tuple[str, SignalValue | None], ...]:
        """Every signal ever heard with its newest value, sorted by name; None for what is not known now."""
        return tuple(sorted(self._values.items(), key=lambda item: item[0]))

    def newest_boottime_ns(self) -> int | None:
        """CLOCK_BOOTTIME of the newest signal; None before the first."""
        return max(self._heard_ns.values(), default=None)


def _same(one: SignalValue | None, other: SignalValue | None) -> bool:
    # 1 == True in Python; on the wire they differ.
    return one == other and isinstance(one, bool) == isinstance(other, bool)
