"""The store and the uplink of a light unit: what the real ones give, without disk, threads and timers."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent import config
from agent.domain.record import Draft, Kind, Stream
from agent.domain.state import State, VehicleState
from agent.outbox.deposit import Deposit, Fate
from agent.outbox.entry import STREAM_OF_KIND, Entry, entries_of, entry_of
from agent.paths.row_time import RowTime
from agent.uplink.batching import Batcher
from agent.uplink.link.link import Message
from agent.uplink.packet_limit import PacketLimit
from agent.uplink.presence import Presence
from agent.uplink.publisher import LOOK_S
from agent.uplink.state_sender import ORDER
from agent.wire.codec import encode_state
from agent.wire.row import Row
from agent.wire.topics import Topics

NS = 1_000_000_000
KEPT_EVENTS = 512
"""For a start that looks back at the presses before it."""
WAY_NS = 30_000_000
"""From the unit to the broker, and back: as on the sim rig."""
RECONNECT_S = (0.6, 5.0)
"""From coverage to a connection: within the longest pause of the first ten minutes."""
HALF_OPEN_S = 28.0
"""A connection outlives a hole that is shorter than 1.4 keep-alives: TCP sends again what was lost."""


class LightStore:
    """Numbers, keeps and forgets records as the outbox does. Outlives the power of its unit.

    Attributes:
        journal: its identity.
        boot: the store's count of boots.
        rows: what is on the disk and not delivered, of each stream, ascending.
        staged: what waits for the next commit.
    """

    def __init__(self, journal: int) -> None:
        self.journal = journal
        self.boot = 0
        self.rows: dict[Stream, list[Row]] = {stream: [] for stream in Stream}
        self.staged: list[Entry] = []
        self.appended: set[Stream] = set()
        self._put: list[Deposit] = []
        self._last = dict.fromkeys(Stream, 0)
        self._confirmed = dict.fromkeys(Stream, 0)
        self._saved = dict.fromkeys(Stream, 0)
        self._newest: dict[int, Row] = {}
        self._events: deque[Row] = deque(maxlen=KEPT_EVENTS)
        self._deposits: dict[int, Deposit] = {}
        self.before_store: Callable[[Draft], Draft | None] = lambda draft: draft
        self.all_rows: list[tuple[Stream, Row]] | None = None
        """Every row ever, for whoever compares; None to keep none."""

    # ------------------------------------------------------------------ as the outbox

    def put(self, draft: Draft) -> Deposit:
        """See Outbox.put: it is stored with the next turn, and what is staged goes with it."""
        deposit = Deposit(entry_of(self.before_store(draft) or draft))
        self._put.append(deposit)
        return deposit

    def stage(self, draft: Draft) -> None:
        """See Outbox.stage."""
        told = self.before_store(draft)
        if told is not None:
            self.staged += entries_of(told)

    def follow(self, row: Row) -> Deposit:
        """See Outbox.follow."""
        deposit = Deposit(Entry(row.kind, *row[3:]), ours=False)
        delivered = row.seq <= self._confirmed[STREAM_OF_KIND[row.kind]]
        deposit.now(row.seq, Fate.DELIVERED if delivered else Fate.STORED)
        deposit.set_result(row.seq)
        self._deposits[row.seq] = deposit
        return deposit

    async def latest(self, kind: Kind) -> Row | None:
        """See Outbox.latest."""
        return self._newest.get(kind.value)

    async def read(
        self, stream: Stream, after_seq: int, *, max_records: int, max_bytes: int, last_seq: int | None = None
    ) -> list[Row]:
        """See Outbox.read: of the events only, and the newest of them; bytes are not counted."""
        del max_bytes
        kept = self._events if stream is Stream.EVENTS else ()
        last = self._last[stream] if last_seq is None else last_seq
        return [row for row in kept if after_seq < row.seq <= last][:max_records]

    def last_seq(self, stream: Stream) -> int:
        """See Outbox.last_seq."""
        return self._last[stream]

    def confirmed(self, stream: Stream) -> int:
        """See Outbox.confirmed."""
        return self._confirmed[stream]

    def confirm(self, stream: Stream, through_seq: int) -> None:
        """See Outbox.confirm: it reaches the disk with the next commit."""
        if through_seq <= self._confirmed[stream]:
            return
        self._confirmed[stream] = through_seq
        if stream is Stream.EVENTS:
            for seq in [seq for seq in self._deposits if seq <= through_seq]:
                self._deposits.pop(seq).now(seq, Fate.DELIVERED)

    @property
    def boot_ids(self) -> Mapping[int, str]:
        """None: nobody here asks for them."""
        return {}

    # ------------------------------------------------------------------ for the light unit

    @property
    def commit_due(self) -> bool:
        """Whether something was put and is not on the disk yet."""
        return bool(self._put)

    def flush(self) -> None:
        """Commit what was put and what is staged."""
        put, self._put = self._put, []
        staged, self.staged = self.staged, []
        for entry in staged:
            self._append(entry)
        rows = [self._append(deposit.entry) for deposit in put]
        self.save()
        for deposit, row in zip(put, rows, strict=True):
            self._deposits[row.seq] = deposit
            deposit.now(row.seq, Fate.STORED)
            deposit.set_result(row.seq)

    def save(self) -> None:
        """A commit: what was confirmed is on the disk with it, and no longer needed."""
        for stream, confirmed in self._confirmed.items():
            if confirmed > self._saved[stream]:
                self._saved[stream] = confirmed
                self.rows[stream] = [row for row in self.rows[stream] if row.seq > confirmed]

    def cut(self) -> int:
        """The power goes: what was staged is gone, and what was confirmed since the last commit forgotten.

        Returns how many records went with it.
        """
        lost, self.staged = len(self.staged), []
        self._put.clear()
        self._confirmed = dict(self._saved)
        self._deposits.clear()
        return lost

    def after(self, stream: Stream, seq: int) -> list[Row]:
        """What is kept behind a number."""
        return [row for row in self.rows[stream] if row.seq > seq]

    def _append(self, entry: Entry) -> Row:
        stream = STREAM_OF_KIND[entry.kind]
        self._last[stream] += 1
        row = Row(
            self._last[stream],
            entry.kind,
            self.boot,
            entry.boottime_ms,
            entry.utc_ms,
            entry.utc_source,
            entry.utc_uncertainty_ms,
            entry.body,
        )
        self.rows[stream].append(row)
        self.appended.add(stream)
        self._newest[entry.kind] = row
        if stream is Stream.EVENTS:
            self._events.append(row)
        if self.all_rows is not None:
            self.all_rows.append((stream, row))
        return row


@dataclass(frozen=True, slots=True)
class Sent:
    """A message of a unit.

    Attributes:
        at_ns: when the broker has it, in nanoseconds of the simulation.
        topic: of it.
        payload: of it.
        packet_bytes: as an MQTT packet.
        retain: whether the broker keeps it.
    """

    at_ns: int
    topic: str
    payload: bytes
    packet_bytes: int
    retain: bool


def sent(at_ns: int, message: Message) -> Sent:
    """A message that the broker has at a moment."""
    return Sent(at_ns, message.topic, message.payload, message.packet_bytes(), message.retain)


class LightUplink:
    """Sends states and records over a network that comes and goes. Implements StateSink.

    Attributes:
        out: what the broker got since it was taken last.
        connected: whether a broker has us.
        sent_again: messages that went twice because nobody said that they had come.
    """

    def __init__(
        self,
        settings: config.Uplink,
        topics: Topics,
        store: LightStore,
        *,
        presence: Presence,
        rows: RowTime,
        rng: random.Random,
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._store = store
        self._presence = presence
        self._rng = rng
        limit = PacketLimit()
        self._batchers = {
            stream: Batcher(settings, topics, store, stream, limit, rows)  # type: ignore[arg-type]  # a store in memory
            for stream in Stream
        }
        self._states: dict[str, State] = {}
        self._changes: dict[str, VehicleState] = {}
        self._waiting: dict[str, int] = {}
        """Names of states that wait for the answer to the one before, and until when."""
        self._answered_ns: dict[str, int] = {}
        self._sent_seq = dict.fromkeys(Stream, 0)
        self._acks: list[tuple[int, Stream, int]] = []
        self._horizon = dict.fromkeys(Stream, 0)
        self.out: list[Sent] = []
        self.connected = False
        self.sent_again = 0
        self._covered = False
        self._open_at_ns: int | None = None
        self._lost_ns: int | None = None
        self._will: Message | None = None
        self._will_at_ns: int | None = None
        self.now_ns = 0

    # ------------------------------------------------------------------ the network

    def cover(self, *, covered: bool, now_ns: int, at_once: bool = False) -> None:
        """The network is here, or gone; `at_once` when the first try of a connection is made just now."""
        self.now_ns = now_ns
        if covered is self._covered:
            return
        self._covered = covered
        if covered:
            held = self.connected and self._lost_ns is not None
            self._lost_ns = None
            if held:
                self._resume()
            else:
                wait_ns = round(self._rng.uniform(*RECONNECT_S) * NS)
                self._open_at_ns = now_ns + (2 * WAY_NS + round(LOOK_S * NS) if at_once else wait_ns)
        else:
            self._open_at_ns = None
            if self.connected:
                self._lost_ns = now_ns
                self._drop_what_was_under_way(now_ns)

    def due_ns(self) -> int | None:
        """When something happens by itself next; None when nothing will."""
        times = list(self._waiting.values()) if self._is_up else []
        if self._acks and self._is_up:
            times.append(self._acks[0][0])
        if self._lost_ns is not None:
            times.append(self._lost_ns + round(HALF_OPEN_S * NS))
        times += [at_ns for at_ns in (self._open_at_ns, self._will_at_ns) if at_ns is not None]
        return min(times, default=None)

    def tend(self, now_ns: int) -> None:
        """Do what is due: answers come, connections open, the broker notices who is gone."""
        self.now_ns = now_ns
        if self._lost_ns is not None and now_ns - self._lost_ns >= round(HALF_OPEN_S * NS):
            self._close(self._lost_ns)
        if self._open_at_ns is not None and now_ns >= self._open_at_ns:
            self._open()
        if self._will_at_ns is not None and now_ns >= self._will_at_ns:
            self._publish_will()
        if not self._is_up:
            return
        while self._acks and self._acks[0][0] <= now_ns:
            _, stream, seq = self._acks.pop(0)
            self._store.confirm(stream, seq)
        # What the answers changed goes with what waited for one.
        for name in [name for name, until in self._waiting.items() if until <= now_ns]:
            self._send_state(name, self._waiting.pop(name))

    def power_off(self, *, orderly: bool) -> None:
        """The unit goes: with a farewell, or without a word."""
        if orderly and self._is_up:
            self.send()
            self.set_state(self._presence.farewell(5))
            self._will = None
        if self.connected:
            self._close(self.now_ns if self._lost_ns is None else self._lost_ns)
        self._open_at_ns = None

    def will(self) -> tuple[int, Message] | None:
        """What the broker will say of a unit that is gone, and when; it outlives the unit's power."""
        if self._will is None or self._will_at_ns is None:
            return None
        return self._will_at_ns, self._will

    # ------------------------------------------------------------------ what is sent

    def set_state(self, state: State) -> None:
        """See Publisher.set_state."""
        known = self._states.get(state.name)
        if isinstance(state, VehicleState) and isinstance(known, VehicleState):
            self._states[state.name] = state.over(known)
        else:
            self._states[state.name] = state
        if not self._is_up:
            return
        if isinstance(state, VehicleState) and state.complete is False:
            waiting = self._changes.get(state.name)
            self._changes[state.name] = state if waiting is None else state.over(waiting)
        else:
            self._changes.pop(state.name, None)
        free_ns = self._answered_ns.get(state.name, 0)
        if free_ns > self.now_ns or state.name in self._waiting:
            self._waiting[state.name] = free_ns
        else:
            self._send_state(state.name, self.now_ns)

    def send(self) -> None:
        """Send the records that are new on the disk."""
        self._store.appended.clear()
        if not self._is_up:
            return
        for stream in Stream:
            rows = self._store.after(stream, self._sent_seq[stream])
            while rows:
                history = rows[0].seq <= self._horizon[stream]
                cut = [row for row in rows if row.seq <= self._horizon[stream]] if history else rows
                outgoing = self._batchers[stream].make(cut, history=history, replay=False)
                assert outgoing is not None
                self._sent_seq[stream] = outgoing.last_seq
                self._publish(outgoing.message, self.now_ns)
                self._acks.append((self.now_ns + 2 * WAY_NS, stream, outgoing.last_seq))
                rows = rows[outgoing.count :]

    # ------------------------------------------------------------------ inside

    @property
    def _is_up(self) -> bool:
        return self.connected and self._lost_ns is None

    def _open(self) -> None:
        self._open_at_ns = None
        self._will_at_ns = None  # we are back before the broker said that we were gone
        self.connected = True
        self._presence.begin()
        self._will = self._presence.will(self._topics, self._settings.encoding)
        birth = self._presence.birth(5)
        self._states[birth.name] = birth
        self._begin_again()
        self._changes.clear()
        self._waiting.clear()
        for name in ORDER:
            if name in self._states:
                self._send_state(name, self.now_ns)
        self.send()

    def _resume(self) -> None:
        """The same connection goes on: TCP brings what was under way, and what was said meanwhile."""
        for name in ORDER:
            if name in self._states:
                self._send_state(name, self.now_ns)
        self._begin_again()
        self.send()

    def _begin_again(self) -> None:
        for stream in Stream:
            confirmed = self._store.confirmed(stream)
            if self._sent_seq[stream] > confirmed:
                self.sent_again += 1
            self._sent_seq[stream] = confirmed
            self._horizon[stream] = self._store.last_seq(stream)
        self._acks.clear()

    def _close(self, since_ns: int) -> None:
        self.connected = False
        self._lost_ns = None
        self._acks.clear()
        if self._will is not None:
            grace_s = 1.5 * self._settings.keepalive_s + self._settings.will_delay_s
            self._will_at_ns = since_ns + round(grace_s * NS)

    def _drop_what_was_under_way(self, now_ns: int) -> None:
        """Of what was sent in the last moments some arrives, and nobody is told."""
        self.out = [one for one in self.out if one.at_ns <= now_ns or self._rng.random() < 0.5]

    def _publish_will(self) -> None:
        assert self._will is not None
        assert self._will_at_ns is not None
        self.out.append(sent(self._will_at_ns, self._will))
        self._will_at_ns = self._will = None

    def _send_state(self, name: str, at_ns: int) -> None:
        state = self._changes.pop(name, None) or self._states[name]
        self._answered_ns[name] = at_ns + 2 * WAY_NS
        partial = isinstance(state, VehicleState) and state.complete is False
        encoded = encode_state(state, self._settings.encoding)
        expiry_s = self._settings.position_expiry_s if name == "location" else None
        message = Message(
            self._topics.state(name),
            encoded.payload,
            retain=not partial,
            content_type=encoded.content_type,
            expiry_s=expiry_s,
        )
        self._publish(message, at_ns)

    def _publish(self, message: Message, at_ns: int) -> None:
        self.out.append(sent(at_ns + WAY_NS, message))
