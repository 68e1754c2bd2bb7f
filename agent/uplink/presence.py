"""What a unit says of itself: that it came, that it goes, and what the broker says once it is gone."""

from __future__ import annotations

import random
from collections.abc import Callable

from agent.domain.record import Stream
from agent.domain.stamp import Utc
from agent.domain.state import LinkState
from agent.hal.clock import Clock
from agent.uplink.link.link import Message
from agent.uplink.records import Records
from agent.wire.codec import Encoding, encode_state
from agent.wire.topics import Topics


class Presence:
    """Makes the link state: birth, farewell and last will of one connection carry the same session number."""

    def __init__(
        self,
        records: Records,
        clock: Clock,
        rng: random.Random,
        *,
        agent_version: str,
        utc_now: Callable[[], Utc | None],
    ) -> None:
        self._records = records
        self._clock = clock
        self._rng = rng
        self._agent_version = agent_version
        self._utc_now = utc_now
        self._told_journal = 0
        self.session = 0
        self.parked: bool | None = None
        """Whether the unit parks; None where nobody would know."""

    @property
    def outdated(self) -> bool:
        """True when the store was opened or replaced since the last birth."""
        return self._told_journal != self._records.journal

    def begin(self) -> int:
        """Another connection, another session number."""
        self.session = self._rng.getrandbits(32)
        return self.session

    def birth(self, mqtt_version: int) -> LinkState:
        """The unit is there, and this is what was delivered before."""
        self._told_journal = journal = self._records.journal
        events_seq, trail_seq = (
            self._records.confirmed(stream) if journal else None for stream in (Stream.EVENTS, Stream.TRAIL)
        )
        return self._state(online=True, mqtt_version=mqtt_version, events_seq=events_seq, trail_seq=trail_seq)

    def farewell(self, mqtt_version: int) -> LinkState:
        """The unit goes on purpose."""
        return self._state(online=False, planned=True, mqtt_version=mqtt_version)

    def will(self, topics: Topics, encoding: Encoding) -> Message:
        """What the broker says of the unit once it has been gone for the will delay."""
        encoded = encode_state(self._state(online=False), encoding)
        topic = topics.state(LinkState.name)
        return Message(topic, encoded.payload, retain=True, content_type=encoded.content_type)

    def _state(
        self,
        *,
        online: bool,
        planned: bool = False,
        mqtt_version: int | None = None,
        events_seq: int | None = None,
        trail_seq: int | None = None,
    ) -> LinkState:
        return LinkState(
            boottime_ms=self._clock.boottime_ns() // 1_000_000,
            utc=self._utc_now(),
            session=self.session,
            online=online,
            boot_id=self._clock.boot_id,
            boot=self._records.boot,
            journal=self._records.journal,
            agent_version=self._agent_version,
            mqtt_version=mqtt_version,
            planned=planned,
            events_seq=events_seq,
            trail_seq=trail_seq,
            parked=self.parked,
        )
