"""What every command to the vehicle has in common, whatever it does.

Each is allowed or not by configuration, has an end, is done once for one id (also after a restart), is
answered, and stands in the journal with who asked for what. What it does is a row of its own (`Doing`).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol

from agent.domain.record import CommandResult, Draft, Outcome
from agent.domain.time_base import TimeBase
from agent.hal.clock import Clock
from agent.outbox.fault import OutboxClosedError
from agent.runtime.log import EventLog
from agent.runtime.plain_text import told
from agent.uplink.commands import KEPT_PER_S, NOBODY, Asker, Command
from agent.uplink.pacing import Allowance
from agent.wire.fleet_orders import DECODERS, Order
from agent.wire.reader_request import RefusalReason, Reply

log = EventLog("commands")

MOST_KEPT: Final = 128
"""Ids that are remembered, so that a command that comes again is not done again."""
MOST_WAITING: Final = 32
"""Answers that wait for a connection."""
TICK_S: Final = 1.0
_REFUSALS_AT_ONCE, _REFUSAL_EVERY_S = 32.0, 30.0
"""Refusals that are journalled: a flood of what is refused must not fill the store."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a command.

    Attributes:
        outcome: accepted, when the end comes later.
        reason: why it was refused or done in part.
        text: a sentence for a person.
        result: what was asked for, as JSON.
    """

    outcome: Outcome
    reason: RefusalReason | None = None
    text: str | None = None
    result: str | None = None


def done(text: str | None = None, result: str | None = None) -> Result:
    """It was done."""
    return Result(Outcome.DONE, None, text, result)


def accepted(text: str | None = None, result: str | None = None) -> Result:
    """It is being done."""
    return Result(Outcome.ACCEPTED, None, text, result)


def refused(reason: RefusalReason, text: str | None = None) -> Result:
    """It was not done."""
    return Result(Outcome.REFUSED, reason, text)


@dataclass(frozen=True, slots=True)
class Asked:
    """A command that is being done, for an answer that comes later.

    Attributes:
        name: of the command.
        id: of the command; empty for none.
        by: who gave it.
        asker: where the answer goes.
    """

    name: str
    id: str
    by: str | None
    asker: Asker = NOBODY


@dataclass(frozen=True, slots=True)
class Doing:
    """A row: what a command does.

    Attributes:
        do: does it; gets what is asked and by whom. What is only accepted is ended by `FleetCommands.finish`.
        changes: False when it changes nothing: then it is simply done again when it comes again.
        per_s: how many are looked at in the long run.
        burst: how many at once.
    """

    do: Callable[[Any, Asked], Result | Awaitable[Result]]
    changes: bool = True
    per_s: float = KEPT_PER_S
    burst: float = 16


@dataclass(frozen=True, slots=True)
class _Kept:
    name: str
    digest: str
    result: Result
    asked: Asked


class Records(Protocol):
    """Where records go; the outbox."""

    def stage(self, draft: Draft) -> None:
        """Store a record of the trail with the next group."""
        ...


class Answers(Protocol):
    """Where answers go; the publisher."""

    @property
    def asker(self) -> Asker:
        """Who asked for what is being handled now."""
        ...

    def reply(self, reply: Reply, to: Asker | None = None) -> bool:
        """Answer; False without a connection."""
        ...


class FleetCommands:
    """The commands to the vehicle. Used from the event loop.

    Args:
        doings: what each command does, by name.
        allowed: names that the configuration allows.
        records: the outbox.
        answers: the publisher.
        clock: boot time.
        time_base: knows the UTC, by which a command has expired.
        keep: given, whenever it changed, what `open` must be given after a restart.
    """

    def __init__(
        self,
        doings: Mapping[str, Doing],
        allowed: Collection[str],
        *,
        records: Records,
        answers: Callable[[], Answers],
        clock: Clock,
        time_base: TimeBase,
        keep: Callable[[Mapping[str, Any]], object] = lambda _: None,
    ) -> None:
        self._doings = doings
        self._allowed = frozenset(allowed)
        self._records = records
        self._answers = answers
        self._clock = clock
        self._time_base = time_base
        self._keep = keep
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._waiting: list[tuple[Reply, Asker]] = []
        self._refusals = Allowance(1 / _REFUSAL_EVERY_S, _REFUSALS_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def rows(self) -> Sequence[Command]:
        """The rows of the uplink's table."""
        return [
            Command(name, DECODERS[name], partial(self._take, name), doing.per_s, doing.burst)
            for name, doing in self._doings.items()
        ]

    def open(self, remembered: Mapping[str, Any]) -> Sequence[Asked]:
        """Take up what an earlier run did; gives the commands that it did not see to their end.

        Args:
            remembered: what `keep` was given last; what makes no sense in it is left out.
        """
        for given in remembered.get("commands") or ():
            try:
                kept = _kept_from(given)
            except (ValueError, TypeError, KeyError, AttributeError):
                log.error("command_not_remembered")
            else:
                self._kept[kept.asked.id] = kept
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return [kept.asked for kept in self._kept.values() if kept.result.outcome is Outcome.ACCEPTED]

    async def run(self, progress: Callable[[], None]) -> None:
        """The unit's loop: what could not be answered without a connection is answered once there is one."""
        try:
            while True:
                progress()
                while self._waiting and self._answers().reply(*self._waiting[0]):
                    self._waiting.pop(0)
                await asyncio.sleep(TICK_S)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def finish(self, asked: Asked, result: Result) -> None:
        """Say what became of a command that was accepted before."""
        kept = self._kept.get(asked.id)
        if kept is not None:
            self._remember(replace(kept, result=result))
        self._tell(asked, result)

    # ------------------------------------------------------------------ a command that comes

    def _take(self, name: str, order: Order) -> None:
        asked = Asked(name, order.id, order.by, self._answers().asker)
        doing, kept = self._doings[name], self._kept.get(order.id) if order.id else None
        if name not in self._allowed:
            self._tell(asked, refused(RefusalReason.NOT_ALLOWED))
        elif kept is not None and (kept.name, kept.digest) != (name, order.digest):
            self._tell(asked, refused(RefusalReason.ID_REUSED))
        elif kept is not None:
            self._reply(asked, kept.result)  # again: it is not done, nor journalled, a second time
        elif late := self._too_late(order):
            self._tell(asked, refused(late))
        else:
            self._do(doing, order, asked)

    def _too_late(self, order: Order) -> RefusalReason | None:
        if order.until_unix_ms is None:
            return None
        utc = self._time_base.utc(self._clock.boottime_ns())
        if utc is None:
            return RefusalReason.TIME_UNKNOWN
        return RefusalReason.EXPIRED if utc.unix_ms > order.until_unix_ms else None

    def _do(self, doing: Doing, order: Order, asked: Asked) -> None:
        result = doing.do(order.what, asked)
        remembers = doing.changes and bool(order.id)
        if isinstance(result, Result):
            if remembers and result.outcome is not Outcome.REFUSED:
                self._remember(_Kept(asked.name, order.digest, result, asked))
            self._tell(asked, result)
            return
        if remembers:
            # From now on the same id is the same command, also while it is being done.
            self._remember(_Kept(asked.name, order.digest, accepted(), asked))
        task = asyncio.get_running_loop().create_task(
            self._await(result, asked), name=f"command-{asked.name}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _await(self, later: Awaitable[Result], asked: Asked) -> None:
        try:
            result = await later
        except Exception as error:  # noqa: BLE001  # whoever asked is told, and no other command is held up
            log.error("command_failed", name=asked.name, error=error, exc=error)
            result = refused(RefusalReason.FAILED, told(error))
        self.finish(asked, result)

    def _remember(self, kept: _Kept) -> None:
        kept = replace(kept, result=replace(kept.result, result=None))
        self._kept[kept.asked.id] = kept
        self._kept.move_to_end(kept.asked.id)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        self._keep({"commands": [_kept_to(one) for one in self._kept.values()]})

    def _tell(self, asked: Asked, result: Result) -> None:
        self._journal(asked, result)
        self._reply(asked, result)

    def _journal(self, asked: Asked, result: Result) -> None:
        now_ns = self._clock.boottime_ns()
        log.info("command", name=asked.name, outcome=result.outcome, by=asked.by or "", id=asked.id)
        if result.outcome is Outcome.REFUSED and not self._refusals.take(now_ns / 1e9):
            return
        body = CommandResult(
            asked.name,
            str(result.outcome),
            request=asked.id or None,
            by=asked.by,
            reason=None if result.reason is None else str(result.reason),
            text=result.text,
        )
        try:
            self._records.stage(Draft(self._time_base.stamp(now_ns), body))
        except OutboxClosedError:
            log.error("record_not_stored", body="CommandResult")

    def _reply(self, asked: Asked, result: Result) -> None:
        reply = Reply(
            asked.name,
            str(result.outcome),
            asked.id or None,
            None if result.reason is None else str(result.reason),
            result.text,
            result=result.result,
        )
        if not self._answers().reply(reply, asked.asker) and len(self._waiting) < MOST_WAITING:
            self._waiting.append((reply, asked.asker))


def _kept_to(kept: _Kept) -> dict[str, Any]:
    asked, result = kept.asked, kept.result
    correlation = asked.asker.correlation
    return {
        "id": asked.id,
        "name": kept.name,
        "digest": kept.digest,
        "outcome": str(result.outcome),
        "reason": None if result.reason is None else str(result.reason),
        "text": result.text,
        "by": asked.by,
        "topic": asked.asker.topic,
        "correlation": None if correlation is None else base64.b64encode(correlation).decode(),
    }


def _kept_from(given: Mapping[str, Any]) -> _Kept:
    correlation = given["correlation"]
    try:
        asker = Asker(given["topic"], None if correlation is None else base64.b64decode(correlation))
    except binascii.Error as error:
        raise ValueError("no correlation data") from error
    reason = None if given["reason"] is None else RefusalReason(given["reason"])
    return _Kept(
        str(given["name"]),
        str(given["digest"]),
        Result(Outcome(given["outcome"]), reason, given["text"]),
        Asked(str(given["name"]), str(given["id"]), given["by"], asker),
    )
