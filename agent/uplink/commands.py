"""What the unit is told to do: one row for each command, from its name to what decodes and what does it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from agent.domain.record import Outcome
from agent.runtime.log import EventLog
from agent.runtime.plain_text import harmless
from agent.uplink.pacing import Allowance
from agent.wire.batch import CodecError
from agent.wire.reader_request import RefusalReason, Reply
from agent.wire.topics import COMMANDS, REPLAY, Topics

log = EventLog("uplink")

PER_S = 2.0
BURST = 64.0
"""Commands of one name that are looked at in the long run, and at once: more cost nothing but a count."""
_TEXT_LETTERS = 200


@dataclass(frozen=True, slots=True)
class Command:
    """A row of the table.

    Attributes:
        name: last level of its topic, `command/{name}`; a key of `agent.wire.topics.COMMANDS`.
        decode: what the payload says. Raises CodecError on anything but a well-formed command.
        handle: does it, and answers by `Publisher.reply`; called on the event loop with what `decode` gave.
            What it raises ends the uplink's run, and the supervisor starts it again.
    """

    name: str
    decode: Callable[[bytes], Any]
    handle: Callable[[Any], None]


@dataclass(slots=True)
class _Count:
    allowance: Allowance = field(default_factory=lambda: Allowance(PER_S, BURST))
    dropped: int = 0
    told_at: float = -math.inf


class CommandTable:
    """The commands that a unit takes. Used from the event loop only.

    What is not done is answered: a command that is malformed, retained, unknown, or one of too many.
    """

    DROPS_TOLD_EVERY_S = 60.0

    def __init__(self, topics: Topics, rows: Iterable[Command], answer: Callable[[Reply], None]) -> None:
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
        self._names = {topics.command(name): name for name in COMMANDS}
        self._counts = {name: _Count() for name in COMMANDS}
        self._answer = answer
        self.filter = topics.command(REPLAY).removesuffix(REPLAY) + "+"
        """What to subscribe to: also to what is not done, which is answered."""

    def take(self, topic: str, payload: bytes, now: float, *, retained: bool = False) -> None:
        """Do what a message says, or answer why not."""
        name = self._names.get(topic)
        if name is None:
            return
        count = self._counts[name]
        if not count.allowance.take(now):
            self._drop(name, count, now)
        elif retained:
            # It would be done again after every reconnection.
            self._refuse(name, RefusalReason.RETAINED)
        elif name not in self._rows:
            self._refuse(name, RefusalReason.UNKNOWN_COMMAND)
        else:
            self._do(self._rows[name], payload)

    def _do(self, row: Command, payload: bytes) -> None:
        try:
            given = row.decode(payload)
        except CodecError as error:
            self._refuse(row.name, RefusalReason.MALFORMED, harmless(str(error), _TEXT_LETTERS))
        else:
            row.handle(given)

    def _refuse(self, name: str, reason: RefusalReason, text: str | None = None) -> None:
        log.warning("command_refused", name=name, reason=reason, why=text or "")
        self._answer(Reply(name, Outcome.REFUSED, reason=reason, text=text))

    def _drop(self, name: str, count: _Count, now: float) -> None:
        count.dropped += 1
        if now - count.told_at >= self.DROPS_TOLD_EVERY_S:
            log.warning("commands_dropped", name=name, dropped=count.dropped)
            count.told_at, count.dropped = now, 0
            self._answer(Reply(name, Outcome.REFUSED, reason=RefusalReason.BUSY))


def _problem(row: Command, others: dict[str, Command]) -> str:
    """What a row lacks; empty when it is complete. Types are not enough: rows are made where the app is."""
    decode: object = row.decode
    handle: object = row.handle
    if row.name not in COMMANDS:
        return "the name has no line in COMMANDS of agent.wire.topics, where every command topic stands"
    if row.name in others:
        return "there is a row of that name already"
    if not callable(decode):
        return "`decode` must be a function from the payload's bytes to what the command says"
    if not callable(handle):
        return "`handle` must be a function that does what `decode` gave"
    return ""
