"""All that a consumer of units' messages does, whatever carries them: no connection, no clock, no thread.

`Client` in the module beside it is this with a connection. A service with a connection of its own calls
`take` for every message, publishes what `due` gives once a second, and sends `receipts` once it has stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.domain.state import LinkState, State, VehicleState
from agent.reader.journal_reader import JournalReader
from agent.wire.batch import CodecError, JournalRecord
from agent.wire.codec import Encoded, decode_state
from agent.wire.reader_request import JournalRequest, Reply, decode_reply, encode_map
from agent.wire.topics import NEW_JOURNAL, Area, Topics, parse_topic


@dataclass(frozen=True, slots=True)
class Arrival:
    """What one message brought.

    Attributes:
        topics: of which unit.
        records: journal records that are new, in the order in which they came; see `JournalRecord.conflict`.
        state: what is true now; of the vehicle the whole picture so far. None when it was taken back.
        reply: a unit's answer to a command.
        problem: why the message could not be read; empty when it could.
    """

    topics: Topics
    records: tuple[JournalRecord, ...] = ()
    state: State | None = None
    reply: Reply | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish at QoS 1, not retained."""

    topic: str
    encoded: Encoded


class Consumer:
    """Reads journals, states and answers of any number of units. Not thread-safe.

    Args:
        want_history: whether to ask for what was sent before the first contact with a stream. A consumer that
            sends receipts wants it: a receipt says that everything up to a number is there.
    """

    def __init__(self, *, want_history: bool = False) -> None:
        self.reader = JournalReader(want_history=want_history)
        self._states: dict[Topics, dict[str, State]] = {}

    def states(self, topics: Topics) -> dict[str, State]:
        """The newest state of each name of a unit."""
        return dict(self._states.get(topics, {}))

    @property
    def units(self) -> tuple[Topics, ...]:
        """Units of which a state came."""
        return tuple(self._states)

    def take(self, topic: str, payload: bytes, now_s: float) -> Arrival | None:
        """Take a message; None for one that says nothing to this consumer.

        Args:
            topic: as received.
            payload: as received.
            now_s: any clock that goes forward, in seconds; the same one as of `due`.
        """
        parsed = parse_topic(topic)
        if parsed is None:
            return None
        try:
            if parsed.area is Area.STATE:
                return self._take_state(parsed.topics, parsed.name, payload)
            if parsed.area is Area.JOURNAL:
                records = self.reader.feed(topic, payload)
                return Arrival(parsed.topics, tuple(records)) if records else None
            if parsed.area is Area.REPLY:
                self.reader.feed(topic, payload, now_s)
                return Arrival(parsed.topics, reply=decode_reply(payload))
        except CodecError as error:
            return Arrival(parsed.topics, problem=f"{topic}: {error}")
        return None

    def due(self, now_s: float) -> list[Outgoing]:
        """The replay requests to publish now; call it once a second while connected."""
        return [Outgoing(ask.topic, encode_map(ask.request)) for ask in self.reader.asks(now_s)]

    def receipts(self, topics: Topics) -> list[Outgoing]:
        """What to tell a unit once everything that was handed on is stored for good."""
        return [Outgoing(topics.receipt, encode_map(receipt)) for receipt in self.reader.receipts(topics)]

    def request_new_journal(self, topics: Topics, journal: int, why: str) -> Outgoing:
        """What to publish when two records stood under one number: the unit begins a new journal."""
        return Outgoing(topics.command(NEW_JOURNAL), encode_map(JournalRequest(journal, why)))

    def _take_state(self, topics: Topics, name: str, payload: bytes) -> Arrival | None:
        if not payload:
            self._states.get(topics, {}).pop(name, None)
            return Arrival(topics)
        state = decode_state(name, payload)
        self.reader.learn(topics, state)
        known = self._states.setdefault(topics, {})
        earlier = known.get(name)
        if isinstance(state, LinkState) and isinstance(earlier, LinkState) and is_old_news(state, earlier):
            return None
        if isinstance(state, VehicleState):
            if isinstance(earlier, VehicleState):
                state = state.over(earlier)
            elif state.complete is False:
                state = replace(state, complete=None)
        known[name] = state
        return Arrival(topics, state=state)


def is_old_news(link: LinkState, known: LinkState) -> bool:
    """Whether a will is that of a connection which another one has replaced."""
    return known.online and not link.online and link.session != known.session
