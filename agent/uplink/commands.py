"""What the unit is told to do: one row for each command, from its name to what decodes and what does it."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from agent.domain.record import Outcome
from agent.runtime.log import EventLog
from agent.runtime.plain_text import harmless
from agent.uplink.pacing import Allowance
from agent.wire.batch import CodecError
from agent.wire.reader_request import RefusalReason, Reply
from agent.wire.topics import COMMANDS, REPLAY, Topics
from agent.wire.unpacking import parse, unpack

log = EventLog("uplink")

PER_S = 2.0
BURST = 64.0
"""Commands of one name that are looked at in the long run, and at once: more cost nothing but a count."""
KEPT_PER_S = 120 / 3600
"""Of a command that makes records which are kept for ever: a dispatch gone mad must not fill the card."""
MOST_CORRELATION_BYTES = 512
_TEXT_LETTERS = 200
_LEVEL = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST_ID = 64


@dataclass(frozen=True, slots=True)
class Asker:
    """Where the answer to a command goes.

    Attributes:
        topic: one of the unit's own reply topics; None for that of the command.
        correlation: what the answer repeats, so that the asker knows what it answers.
    """

    topic: str | None = None
    correlation: bytes | None = None


NOBODY = Asker()


@dataclass(frozen=True, slots=True)
class Command:
    """A row of the table.

    Attributes:
        name: last level of its topic, `command/{name}`; a key of `agent.wire.topics.COMMANDS`.
        decode: what the payload says. Raises CodecError on anything but a well-formed command.
        handle: does it, and answers by `Publisher.reply`; called on the event loop with what `decode` gave.
            Returns a future where it is done later: until then the broker keeps the command, for a unit that
            is started again meanwhile.
            What it raises ends the uplink's run, and the supervisor starts it again.
        per_s: how many are looked at in the long run.
        burst: how many at once.
    """

    name: str
    decode: Callable[[bytes], Any]
    handle: Callable[[Any], asyncio.Future[Any] | None]
    per_s: float = PER_S
    burst: float = BURST


@dataclass(slots=True)
class _Count:
    allowance: Allowance = field(default_factory=lambda: Allowance(PER_S, BURST))
    taken: int = 0
    refused: int = 0
    dropped: int = 0
    untold: int = 0
    told_at: float = -math.inf


class CommandTable:
    """The commands that a unit takes. Used from the event loop only.

    What is not done is answered: a command that is malformed, retained, unknown, or one of too many.
    """

    DROPS_TOLD_EVERY_S = 60.0

    def __init__(
        self, topics: Topics, rows: Iterable[Command], answer: Callable[[Reply, Asker], object]
    ) -> None:
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
        for row in self._rows.values():
            self._counts[row.name].allowance = Allowance(row.per_s, row.burst)
        self._answer = answer
        self._replies = topics.reply(REPLAY).removesuffix(REPLAY)
        self.asker = NOBODY
        """Who asked for what is being handled now."""
        self.filter = topics.command(REPLAY).removesuffix(REPLAY) + "+"
        """What to subscribe to: also to what is not done, which is answered."""

    def take(
        self,
        topic: str,
        payload: bytes,
        now: float,
        *,
        retained: bool = False,
        response_topic: str | None = None,
        correlation: bytes | None = None,
    ) -> asyncio.Future[Any] | None:
        """Do what a message says, or answer why not. Returns a future where it is done later."""
        name = self._names.get(topic)
        if name is None:
            return None
        count = self._counts[name]
        if not count.allowance.take(now):
            self._drop(name, count, now)
        elif correlation is not None and len(correlation) > MOST_CORRELATION_BYTES:
            why = f"correlation data has at most {MOST_CORRELATION_BYTES} bytes"
            self._refuse(name, RefusalReason.MALFORMED, payload, why)
        elif response_topic is not None and not self._is_own(response_topic):
            # Whoever may write commands must not make the unit write where it may and he may not.
            with self._asked(Asker(None, correlation)):
                self._refuse(name, RefusalReason.BAD_RESPONSE_TOPIC, payload)
        else:
            with self._asked(Asker(response_topic, correlation)):
                return self._look(name, payload, count, retained=retained)
        return None

    def snapshot(self) -> dict[str, dict[str, int]]:
        """How many of each name were done, refused and dropped, of those that ever came."""
        return {
            name: {"taken": count.taken, "refused": count.refused, "dropped": count.dropped}
            for name, count in self._counts.items()
            if count.taken or count.refused or count.dropped
        }

    def _is_own(self, topic: str) -> bool:
        rest = topic.removeprefix(self._replies)
        # One level: what access rules let a unit write. Some brokers hang up on who writes elsewhere.
        return rest != topic and _LEVEL.fullmatch(rest) is not None

    @contextmanager
    def _asked(self, asker: Asker) -> Iterator[None]:
        self.asker = asker
        try:
            yield
        finally:
            self.asker = NOBODY

    def _look(
        self, name: str, payload: bytes, count: _Count, *, retained: bool
    ) -> asyncio.Future[Any] | None:
        if retained:
            # It would be done again after every reconnection.
            self._refuse(name, RefusalReason.RETAINED, payload)
        elif name not in self._rows:
            self._refuse(name, RefusalReason.UNKNOWN_COMMAND, payload)
        else:
            return self._do(self._rows[name], payload, count)
        return None

    def _do(self, row: Command, payload: bytes, count: _Count) -> asyncio.Future[Any] | None:
        try:
            given = row.decode(payload)
        except CodecError as error:
            self._refuse(row.name, RefusalReason.MALFORMED, payload, harmless(str(error), _TEXT_LETTERS))
            return None
        count.taken += 1
        return row.handle(given)

    def _refuse(self, name: str, reason: RefusalReason, payload: bytes, text: str | None = None) -> None:
        self._counts[name].refused += 1
        log.warning("command_refused", name=name, reason=reason, why=text or "")
        self._answer(Reply(name, Outcome.REFUSED, _id_in(payload), reason, text), self.asker)

    def _drop(self, name: str, count: _Count, now: float) -> None:
        count.dropped += 1
        count.untold += 1
        if now - count.told_at >= self.DROPS_TOLD_EVERY_S:
            log.warning("commands_dropped", name=name, dropped=count.untold)
            count.told_at, count.untold = now, 0
            self._answer(Reply(name, Outcome.REFUSED, reason=RefusalReason.BUSY), NOBODY)


def _id_in(payload: bytes) -> str | None:
    """The id of a command that is not done, if one can be read: the asker is to know what is refused."""
    try:
        given = parse(payload) if payload[:1] == b"{" else unpack(payload)
    except CodecError:
        return None
    id_ = given.get("id") if isinstance(given, dict) else None
    return id_ if isinstance(id_, str) and 0 < len(id_) <= _LONGEST_ID else None


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
