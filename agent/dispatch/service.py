"""The service: what the source brings is stored, then confirmed, then shown; in this order and no other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from agent.dispatch import alarm_rules, cad, queries
from agent.dispatch.access import Who
from agent.dispatch.commands import COMMANDS, encode
from agent.dispatch.fleet import Fleet
from agent.dispatch.hub import Hub
from agent.dispatch.intake import Heard, Intake, Message, Refused, record_body
from agent.dispatch.ledger import Ledger, Unsent
from agent.dispatch.mqtt_source import SourceState
from agent.dispatch.outputs.output import Output, OutputError, OutputSettings, make
from agent.dispatch.queries import Reading
from agent.dispatch.settings import DispatchFile
from agent.dispatch.store.engine import Engine, StoreDataError, StoreError, StoreOwnedError
from agent.dispatch.store.store import Store
from agent.domain.record import Kind, Stream
from agent.domain.state import LinkState
from agent.reader.journal_reader import StreamCursor
from agent.runtime.log import EventLog
from agent.wire.reader_request import JournalRequest, ReplayRequest, encode_map
from agent.wire.topics import NEW_JOURNAL, ROOT, Topics

GROUP_MESSAGES = 400
"""Most messages in one transaction."""
TICK_S = 0.25
SLOW_TICK_S = 1.0
EXPIRE_EVERY_S = 3600.0
ASKED_AT_ONCE = 8
"""Questions to the CAD that may be under way."""
STORE_RETRY_S = (0.5, 15.0)
SERVICE = Who("the service", "dispatch")
_LOUD = frozenset({Kind.POSITION, Kind.TELEMETRY, Kind.HEALTH})

_log = EventLog("dispatch")
T = TypeVar("T")


class Source(Protocol):
    """Where messages come from, and commands go; see `mqtt_source.MqttSource`."""

    @property
    def connected(self) -> bool:
        """Whether something can be published now."""
        ...

    async def run(self) -> None:
        """Read until cancelled."""
        ...

    def confirm(self, message: Message) -> None:
        """It is stored."""
        ...

    def publish(self, topic: str, payload: bytes, on_taken: Callable[[], None] | None = None) -> bool:
        """Send at least once; False while there is no connection."""
        ...

    def send_kept(self, topic: str, payload: bytes, retain: bool, expiry_s: int | None) -> bool:
        """Send for others than units; False while there is no connection."""
        ...

    def reconnect(self, why: str) -> None:
        """Have everything that was not confirmed again."""
        ...


NewSource = Callable[
    [Callable[[Message], None], Callable[[SourceState], None], Callable[[], int | None]], Source
]
"""Takes what is called with each message and with each change of the connection, and what tells the offset up
to which a stream is stored."""


@dataclass(slots=True)
class Wellbeing:
    """How the service itself is, for the page; nothing here fails in silence.

    Attributes:
        source_detail: why there is no broker; empty when there is.
        store_detail: why nothing can be stored; empty when it can.
        stored_records: since the start.
        stored_batches: since the start.
        refused: messages that could not be read, since the start.
        missing: sequence numbers that are asked for.
        commit_ms: the last transaction's duration.
        started_ms: when it was started.
        outputs: feeds to others that fail, with why.
    """

    source_detail: str = "not connected yet"
    store_detail: str = ""
    stored_records: int = 0
    stored_batches: int = 0
    refused: int = 0
    missing: int = 0
    commit_ms: float = 0.0
    started_ms: int = 0
    outputs: dict[str, str] = field(default_factory=dict)

    @property
    def well(self) -> bool:
        """Whether the picture is alive."""
        return not self.source_detail and not self.store_detail


@dataclass(slots=True)
class _Inbox:
    """Messages that wait for the store; bounded by what the broker may have under way."""

    waiting: deque[Message] = field(default_factory=deque)
    there: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, message: Message) -> None:
        self.waiting.append(message)
        self.there.set()

    async def take(self) -> list[Message]:
        await self.there.wait()
        taken = [self.waiting.popleft() for _ in range(min(GROUP_MESSAGES, len(self.waiting)))]
        if not self.waiting:
            self.there.clear()
        return taken

    def clear(self) -> None:
        self.waiting.clear()
        self.there.clear()


class Service:
    """Used as `async with`, from one event loop.

    Args:
        settings: the configuration.
        engine: the database.
        new_source: makes the source.
        now_ms: this computer's time in Unix milliseconds.
        new_id: makes the identities of commands.

    Attributes:
        fleet: the live picture.
        hub: the pages that look.
        reading: the store, for answers.
        wellbeing: how the service is.
        on_stored: called on the loop with what was stored, before it is shown.
        simulated: the time is that of a simulated or recorded drive.
    """

    def __init__(
        self,
        settings: DispatchFile,
        engine: Engine,
        new_source: NewSource,
        now_ms: Callable[[], int],
        *,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self.settings = settings
        self.fleet = Fleet(settings.picture)
        self.hub = Hub()
        self.reading = Reading(engine)
        self.wellbeing = Wellbeing()
        self.now_ms = now_ms
        self.alarms: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []
        self.on_stored: list[Callable[[Heard], None]] = []
        self.simulated = False
        self._store = Store(engine)
        self._ledger = Ledger(self._store)
        self._new_source = new_source
        self._new_id = new_id
        self._inbox = _Inbox()
        self._intake = Intake(())
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="dispatch-store")
        self._source: Source
        self._tasks: list[asyncio.Task[None]] = []
        self._in_flight: set[str] = set()
        self._asked: dict[tuple[str, str, int, int], asyncio.Task[None]] = {}
        self._sent: deque[tuple[str, int]] = deque()
        self._kick = asyncio.Event()
        self._answered = asyncio.Event()
        self.failed: asyncio.Future[None]

    async def __aenter__(self) -> Service:
        loop = asyncio.get_running_loop()
        self.failed = loop.create_future()
        self.wellbeing.started_ms = self.now_ms()
        await self._open_store()
        self._source = self._new_source(self._inbox.put, self._source_state, lambda: self._store.read_to)
        outputs = [(one, make(one, self._source.send_kept)) for one in self.settings.output]
        for name, work in (
            ("source", self._source.run()),
            ("intake", self._store_what_comes()),
            ("requests", self._keep_asking()),
            ("picture", self._keep_telling()),
            ("retention", self._expire()),
            *((f"output-{one.kind}", self._feed(one, output)) for one, output in outputs),
        ):
            task = loop.create_task(work, name=f"dispatch-{name}")
            task.add_done_callback(self._ended)
            self._tasks.append(task)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hub.close()
        tasks = [*self._tasks, *self._asked.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._writer.submit(self._store.close)
        await asyncio.to_thread(self._writer.shutdown)
        self.reading.close()
        if self.failed.done() and not self.failed.cancelled():
            self.failed.exception()

    # ------------------------------------------------------------------ what people do

    async def command(
        self,
        who: Who,
        name: str,
        topics: Topics,
        fields: dict[str, Any],
        command_id: str | None = None,
        *,
        valid_s: float | None = None,
    ) -> dict[str, Any]:
        """Keep a command, then send it. Raises StoreError, KeyError for a command that there is not."""
        row = COMMANDS[name]
        command_id = command_id or self._new_id()
        now_ms = self.now_ms()
        if row.permission == "answer":
            done = await self._write(
                lambda: self._ledger.answer(who, topics, fields, command_id=command_id, now_ms=now_ms)
            )
        else:
            done = await self._write(
                lambda: self._ledger.command(
                    who, name, topics, fields, command_id=command_id, now_ms=now_ms, valid_s=valid_s
                )
            )
        if done:
            self._kick.set()
            if name in ("assign", "update", "cancel"):
                await self._refresh_calls()
        return {"id": command_id, "done": done}

    async def outcome(self, command_id: str, wait_s: float) -> dict[str, Any] | None:
        """What became of a command, waited for a while; None for one that there is not. Raises StoreError."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + wait_s
        while True:
            answered = self._answered
            told = await self._write(lambda: queries.command(self._store.connection, command_id))
            if told is None or told["ended"] or loop.time() >= until_s:
                return told
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until_s):
                    await answered.wait()

    async def alarm_step(self, who: Who, alarm_id: int, step: str, until_ms: int | None = None) -> str | None:
        """Acknowledge, close or shelve; returns why not. An acknowledged emergency is told to the crew."""
        now_ms = self.now_ms()
        refusal = await self._write(lambda: self._ledger.alarm_step(who, alarm_id, step, now_ms, until_ms))
        if refusal is None:
            if step == "acknowledge":
                await self._tell_acknowledged(who, alarm_id)
            await self._refresh_alarms()
        return refusal

    async def keep_action(self, who: Who, action: str, topics: Topics | None, detail: dict[str, Any]) -> None:
        """Keep that somebody did something that is no command."""
        now_ms = self.now_ms()
        await self._write(lambda: self._ledger.act(who, action, topics, detail, now_ms))

    def snapshot(self) -> dict[str, Any]:
        """The whole live picture."""
        now_ms = self.now_ms()
        picture = self.settings.picture
        return {
            "now_ms": now_ms,
            "late_after_s": picture.late_after_s,
            "stale_after_s": picture.stale_after_s,
            "units": [unit.told(now_ms, picture) for unit in self.fleet],
            "alarms": self.alarms,
            "calls": self.calls,
            "service": self.service_state(),
        }

    def service_state(self) -> dict[str, Any]:
        """How the service is."""
        one = self.wellbeing
        return {
            "well": one.well,
            "broker": one.source_detail,
            "store": one.store_detail,
            "stored_records": one.stored_records,
            "refused": one.refused,
            "missing": one.missing,
            "commit_ms": round(one.commit_ms, 2),
            "started_ms": one.started_ms,
            "simulated": self.simulated,
            "outputs": one.outputs,
            "now_ms": self.now_ms(),
        }

    # ------------------------------------------------------------------ storing

    async def _write(self, work: Callable[[], T]) -> T:
        """Run on the writing thread; what fails there leaves the reader's memory as it was."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    async def _open_store(self) -> None:
        self._intake = Intake(await self._owned_cursors())
        now_ms = self.now_ms()
        rows = await self._write(
            lambda: self._store.connection.query(
                "SELECT units.agency, units.unit, name, received_ms, payload FROM states "
                "JOIN units ON units.unit_id = states.unit_id"
            )
        )
        for agency, unit, name, received_ms, payload in rows:
            self.fleet.restore(Topics(agency, unit), name, bytes(payload), received_ms, now_ms)
        await self._refresh_calls()
        await self._refresh_alarms()

    async def _owned_cursors(self) -> list[StreamCursor]:
        """Open the store; a standby waits until nobody else writes to it."""
        told = False
        while True:
            try:
                return await self._write(self._store.open)
            except StoreOwnedError as error:
                if not self.settings.standby:
                    raise
                if not told:
                    _log.info("standing_by", why=error)
                told = True
            await asyncio.sleep(STORE_RETRY_S[0])

    async def _store_what_comes(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            messages = await self._inbox.take()
            try:
                now_s = loop.time()
                heard = await self._write(lambda given=messages, at=now_s: self._commit(given, at))  # type: ignore[misc]
            except StoreError as error:
                await self._wait_for_store(error)
                continue
            self.wellbeing.store_detail = ""
            births = self._births(heard)
            self._after_commit(heard, messages)
            for topics in births:
                await self._say_again(topics)
            if heard.conflicts or any(is_emergency_heard(heard)):
                await self._refresh_alarms()
            if any(record.kind == Kind.STATUS for batch in heard.batches for record in batch.records):
                self._kick.set()
                await self._refresh_calls()

    async def _wait_for_store(self, error: StoreError) -> None:
        """Nothing was kept and nothing confirmed: once the store is back, the broker sends it all again."""
        wait_s = STORE_RETRY_S[0]
        while True:
            _log.error("store_failed", why=error, waits_s=wait_s)
            self.wellbeing.store_detail = str(error)
            await asyncio.sleep(wait_s)
            wait_s = min(STORE_RETRY_S[1], wait_s * 2)
            try:
                self._intake = Intake(await self._write(self._store.open))
            except StoreOwnedError:
                if self.settings.standby:
                    raise  # it stood by and took over; this service ends, and stands by when it is started
                error = StoreError("another service writes to the store")
            except StoreError as again:
                error = again
            else:
                self._inbox.clear()
                self._source.reconnect("the store was away")
                self.wellbeing.store_detail = ""
                return

    def _commit(self, messages: Sequence[Message], now_s: float) -> Heard:
        """On the writing thread: all of it, or one by one when some of it has no place in the database."""
        started_ms = self.now_ms()
        heard = self._intake.hear(messages, now_s)
        try:
            self._store.write(heard)
        except StoreDataError as error:
            heard = self._one_by_one(messages, error)
        self.wellbeing.commit_ms = self.now_ms() - started_ms
        self.wellbeing.missing = self._intake.holes
        return heard

    def _one_by_one(self, messages: Sequence[Message], first_error: StoreDataError) -> Heard:
        """A message that the database refuses must not keep all others out, again and again."""
        _log.warning("message_refused_by_the_store", why=first_error)
        self._intake = Intake(self._store.reload())
        whole = Heard()
        for message in messages:
            heard = self._intake.hear([message])
            try:
                self._store.write(heard)
            except StoreDataError as error:
                self._intake = Intake(self._store.reload())
                refused = Refused(None, message, f"has no place in the store: {error}")
                heard = Heard(refused=[refused], read_to=message.offset)
                self._store.write(heard)
            whole.batches += heard.batches
            whole.states += heard.states
            whole.replies += heard.replies
            whole.refused += heard.refused
            whole.conflicts += heard.conflicts
            whole.receipts += heard.receipts
        return whole

    def _after_commit(self, heard: Heard, messages: Sequence[Message]) -> None:
        """Now it is on the disk: say so to the broker and to the vehicles, then show it."""
        for message in messages:
            self._source.confirm(message)
        for conflict in heard.conflicts:
            _log.error("identity_conflict", unit=conflict.topics.unit, seq=conflict.record.seq)
            request = JournalRequest(conflict.record.journal, "two records under one number", self._new_id())
            self._source.publish(conflict.topics.command(NEW_JOURNAL), encode_map(request).payload)
        for topics, receipt in heard.receipts:
            self._source.publish(topics.receipt, encode_map(receipt).payload)
        one = self.wellbeing
        one.stored_records += heard.records
        one.stored_batches += len(heard.batches)
        one.refused += len(heard.refused)
        for refused in heard.refused:
            _log.warning("message_refused", topic=refused.message.topic, why=refused.reason)
        for listener in self.on_stored:
            listener(heard)
        self.fleet.take(heard, self.now_ms())
        told = [
            {
                "agency": batch.topics.agency,
                "unit": batch.topics.unit,
                "seq": record.seq,
                "stream": record.stream.value,
                "journal": record.journal,
                "kind": record.token,
                "utc_ms": record.utc_ms,
                "received_ms": batch.message.received_ms,
                "history": record.history or record.replay,
                "body": record_body(record),
            }
            for batch in heard.batches
            for record in batch.records
            if record.kind not in _LOUD
        ]
        if told:
            self.hub.tell("records", told)
        if told or heard.replies:
            self._wake_who_waits()
        for answer in heard.replies:
            reply = json.loads(encode_map(answer.reply, "json").payload)
            self.hub.tell("replies", {"agency": answer.topics.agency, "unit": answer.topics.unit, **reply})

    def _births(self, heard: Heard) -> list[Topics]:
        """Units whose connection is another one than before."""
        found = []
        for one in heard.states:
            if isinstance(one.state, LinkState) and one.state.online:
                unit = self.fleet.get(one.topics)
                if unit is None or unit.birth_session != one.state.session:
                    found.append(one.topics)
        return found

    async def _say_again(self, topics: Topics) -> None:
        """What it did not answer before its connection ended. A store that fails is minded by who writes."""
        with contextlib.suppress(StoreError):
            if await self._write(lambda: self._ledger.say_again(topics)):
                self._kick.set()

    def _wake_who_waits(self) -> None:
        """Whoever waits for the outcome of a command looks again."""
        self._answered.set()
        self._answered = asyncio.Event()

    # ------------------------------------------------------------------ asking, answering, sending

    async def _keep_asking(self) -> None:
        """Replay requests, answers whose time is up, and commands that the broker does not have yet."""
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SLOW_TICK_S):
                    await self._kick.wait()
            self._kick.clear()
            try:
                while self._sent:
                    command_id, sent_ms = self._sent[0]
                    await self._write(lambda one=command_id, at=sent_ms: self._ledger.command_sent(one, at))  # type: ignore[misc]
                    self._sent.popleft()
                    self._in_flight.discard(command_id)
                await self._decide_statuses()
                now_ms = self.now_ms()
                if await self._write(lambda at=now_ms: self._ledger.give_up(at)):  # type: ignore[misc]
                    self._wake_who_waits()
                if self._source.connected:
                    now_s = loop.time()
                    for ask in await self._write(lambda at=now_s: self._intake.asks(at)):  # type: ignore[misc]
                        self._source.publish(ask.topic, encode_map(ask.request).payload)
                    for one in await self._write(self._ledger.unsent):
                        self._send(one)
            except StoreError as error:
                self.wellbeing.store_detail = str(error)
                await asyncio.sleep(SLOW_TICK_S)

    async def _decide_statuses(self) -> None:
        """Accept at once, or wait for the CAD; what nobody decides gets the default, and says so."""
        answers = self.settings.answers
        waiting = await self._write(lambda: queries.waiting_answers(self._store.connection))
        now_ms = self.now_ms()
        for one in waiting:
            late = now_ms - one["asked_ms"] >= answers.wait_s * 1000
            if answers.decide == "cad" and not late:
                self._ask_cad(one)
                continue
            fields = {
                "journal": one["journal"],
                "stream": one["stream"],
                "seq": one["seq"],
                "verdict": "accepted" if answers.decide == "accept" else answers.default,
            }
            if answers.decide == "cad":
                fields |= {"token": "no_decision", "sentence": "The CAD did not decide in time."}
            topics = Topics(one["agency"], one["unit"])
            await self.command(SERVICE, "answer", topics, fields)

    def _ask_cad(self, status: dict[str, Any]) -> None:
        """By webhook, where there is one; once a status, and not all at once."""
        url = self.settings.answers.webhook
        key = status["agency"], status["unit"], status["journal"], status["seq"]
        if url is None or key in self._asked or len(self._asked) >= ASKED_AT_ONCE:
            return
        work = self._one_question(url, status)
        self._asked[key] = asyncio.get_running_loop().create_task(work, name="dispatch-cad")
        self._asked[key].add_done_callback(lambda _: self._kick.set())

    async def _one_question(self, url: str, status: dict[str, Any]) -> None:
        key = status["agency"], status["unit"], status["journal"], status["seq"]
        try:
            fields = await asyncio.to_thread(cad.ask, url, status, self.settings.answers.wait_s)
            topics = Topics(status["agency"], status["unit"])
            await self.command(Who("the CAD", "dispatch"), "answer", topics, fields)
        except (cad.NoDecisionError, StoreError) as error:
            _log.warning("cad_did_not_decide", unit=status["unit"], seq=status["seq"], why=error)
            # Asked again only by its time running out, which gives the default.
            await asyncio.sleep(self.settings.answers.wait_s)
        finally:
            self._asked.pop(key, None)

    def _send(self, one: Unsent) -> None:
        if one.command_id in self._in_flight:
            return
        fields = one.fields
        if one.name == "replay":
            request = ReplayRequest(
                Stream(fields["stream"]),
                fields["first"],
                fields["last"],
                fields.get("journal"),
                one.command_id,
            )
            payload = encode_map(request).payload
        else:
            payload = encode(one.command_id, fields, by=one.by, until_ms=one.until_ms)

        def taken() -> None:
            self._sent.append((one.command_id, self.now_ms()))
            self._kick.set()

        topic = f"{ROOT}/{one.topics.agency}/{one.topics.unit}/command/{one.name}"
        if self._source.publish(topic, payload, taken):
            self._in_flight.add(one.command_id)

    async def _tell_acknowledged(self, who: Who, alarm_id: int) -> None:
        alarm = next((one for one in self.alarms if one["alarm_id"] == alarm_id), None)
        if alarm is None or alarm["kind"] != "emergency" or alarm["seq"] is None:
            return
        fields = {
            "journal": alarm["journal"],
            "stream": Stream.EVENTS.value,
            "seq": alarm["seq"],
            "verdict": "accepted",
            "token": "acknowledged",
            "sentence": "Dispatch has your emergency.",
        }
        now_ms, command_id = self.now_ms(), self._new_id()
        topics = Topics(alarm["agency"], alarm["unit"])
        await self._write(
            lambda: self._ledger.command(who, "answer", topics, fields, command_id=command_id, now_ms=now_ms)
        )
        self._kick.set()

    # ------------------------------------------------------------------ showing

    async def _keep_telling(self) -> None:
        next_slow_s = 0.0
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_S)
            changed = self.fleet.changes(self.now_ms())
            if changed:
                self.hub.tell("units", changed)
            if loop.time() >= next_slow_s:
                next_slow_s = loop.time() + SLOW_TICK_S
                with contextlib.suppress(StoreError):
                    await self._mind_alarms()
                self.hub.tell("service", self.service_state())

    async def _mind_alarms(self) -> None:
        now_ms = self.now_ms()
        holding = alarm_rules.causes(self.fleet, self.calls, now_ms)
        standing = {
            (one["kind"], one["agency"], one["unit"]): one
            for one in self.alarms
            if one["kind"] not in ("emergency", "identity") and one["cleared_ms"] is None
        }
        raised = [holding[key] for key in holding.keys() - standing.keys()]
        cleared = [
            # What nobody looked at, and is over, needs nobody any more.
            (standing[key]["alarm_id"], now_ms, True)
            for key in standing.keys() - holding.keys()
        ]
        if raised or cleared:
            await self._write(lambda: self._ledger.apply_alarms(raised, cleared))
            await self._refresh_alarms()

    async def _refresh_alarms(self) -> None:
        self.alarms = await self._write(self._ledger.open_alarms)
        self.hub.tell("alarms", self.alarms)

    async def _refresh_calls(self) -> None:
        before = {(one["agency"], one["unit"]) for one in self.calls}
        self.calls = await self._write(self._ledger.open_calls)
        of_unit = {(one["agency"], one["unit"]): one for one in self.calls}
        for agency, name in before | of_unit.keys():
            topics = Topics(agency, name)
            self.fleet.unit(topics).call = of_unit.get((agency, name))
            self.fleet.touch(topics)
        self.hub.tell("calls", self.calls)

    async def _feed(self, settings: OutputSettings, output: Output) -> None:
        """One feed to others; what it can not give is told on the page and tried again."""
        name = f"{settings.kind} {settings.url or settings.file or f'{settings.host}:{settings.port}'}"
        try:
            while True:
                await asyncio.sleep(settings.interval_s)
                now_ms = self.now_ms()
                picture = [unit.told(now_ms, self.settings.picture) for unit in self.fleet]
                try:
                    await output.give(picture, now_ms)
                except OutputError as error:
                    if name not in self.wellbeing.outputs:
                        _log.warning("output_failed", output=name, why=error)
                    self.wellbeing.outputs[name] = str(error)
                else:
                    self.wellbeing.outputs.pop(name, None)
        finally:
            await output.close()

    async def _expire(self) -> None:
        retention = self.settings.retention.model_dump()
        while True:
            with contextlib.suppress(StoreError):
                now_ms = self.now_ms()
                for one in await self._write(lambda at=now_ms: self._ledger.expire(retention, at)):  # type: ignore[misc]
                    _log.info("deleted", what=one["what"], rows=one["rows"])
            await asyncio.sleep(EXPIRE_EVERY_S)

    def _source_state(self, state: SourceState) -> None:
        if state.detail != self.wellbeing.source_detail or state.connected != (
            not self.wellbeing.source_detail
        ):
            _log.info("broker", connected=state.connected, detail=state.detail)
        self.wellbeing.source_detail = "" if state.connected else state.detail or "not connected"
        if not state.connected:
            self._in_flight = {command_id for command_id, _ in self._sent}
            self._inbox.clear()
        self._kick.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A part that ends by itself ends the service: systemd starts it anew."""
        if not task.cancelled() and not self.failed.done():
            self.failed.set_exception(task.exception() or RuntimeError(f"{task.get_name()} ended"))


def is_emergency_heard(heard: Heard) -> list[bool]:
    """One element for every emergency record."""
    return [True for batch in heard.batches for record in batch.records if record.kind == Kind.EMERGENCY]
