"""What the unit is told to do: one row for each command, from its name to what decodes and what does it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from agent.runtime.log import EventLog
from agent.uplink.pacing import Allowance
from agent.wire.batch import CodecError
from agent.wire.topics import Topics

log = EventLog("uplink")

PER_S = 2.0
BURST = 64.0
"""Commands of one name that are looked at in the long run, and at once: more cost nothing but a count."""


@dataclass(frozen=True, slots=True)
class Command:
    """A row of the table.

    Attributes:
        name: last level of its topic, `command/{name}`.
        decode: what the payload says. Raises CodecError on anything but a well-formed command.
        handle: does it; called on the event loop with what `decode` gave. What it raises ends the uplink's
            run, and the supervisor starts it again.
        malformed: told of a payload that `decode` refused, for an answer to whoever sent it.
    """

    name: str
    decode: Callable[[bytes], Any]
    handle: Callable[[Any], None]
    malformed: Callable[[CodecError], None] = lambda _: None


@dataclass(slots=True)
class _Count:
    allowance: Allowance = field(default_factory=lambda: Allowance(PER_S, BURST))
    dropped: int = 0
    told_at: float = -math.inf


class CommandTable:
    """The commands that a unit takes. Used from the event loop only."""

    DROPS_TOLD_EVERY_S = 60.0

    def __init__(self, topics: Topics, rows: Iterable[Command]) -> None:
        """Check the rows.

        Raises:
            ValueError: a row is incomplete, or two have one name; says which row and what is missing.
        """
        self._rows: dict[str, Command] = {}
        for row in rows:
            problem = _problem(row, self._rows)
            if problem:
                raise ValueError(f"command table, row {row.name!r}: {problem}")
            self._rows[row.name] = row
        self._names = {topics.command(name): name for name in self._rows}
        self._counts = {name: _Count() for name in self._rows}

    @property
    def topics(self) -> tuple[str, ...]:
        """What to subscribe to."""
        return tuple(self._names)

    def take(self, topic: str, payload: bytes, now: float) -> bool:
        """Do what a message says, if it is well-formed and not one of too many. False for another topic."""
        name = self._names.get(topic)
        if name is None:
            return False
        count = self._counts[name]
        if not count.allowance.take(now):
            self._drop(name, count, now)
            return True
        row = self._rows[name]
        try:
            given = row.decode(payload)
        except CodecError as error:
            log.warning("bad_command", name=name, why=error)
            row.malformed(error)
        else:
            row.handle(given)
        return True

    def _drop(self, name: str, count: _Count, now: float) -> None:
        count.dropped += 1
        if now - count.told_at >= self.DROPS_TOLD_EVERY_S:
            log.warning("commands_dropped", name=name, dropped=count.dropped)
            count.told_at, count.dropped = now, 0


def _problem(row: Command, others: dict[str, Command]) -> str:
    """What a row lacks; empty when it is complete. Types are not enough: rows are made where the app is."""
    decode: object = row.decode
    handle: object = row.handle
    if not row.name or not all(
        letter.isascii() and (letter.isalnum() or letter == "-") for letter in row.name
    ):
        return "the name must be letters, digits and hyphens: it is a level of a topic"
    if row.name in others:
        return "there is a row of that name already"
    if not callable(decode):
        return "`decode` must be a function from the payload's bytes to what the command says"
    if not callable(handle):
        return "`handle` must be a function that does what `decode` gave"
    return ""
