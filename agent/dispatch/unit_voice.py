"""Says what a unit says, payload by payload: for the kit, tests and benchmarks that need no agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.domain.fix import FixMode
from agent.domain.record import Body, Emergency, Kind, Position, StatusChange, Stream
from agent.domain.stamp import Utc, UtcSource
from agent.domain.state import LinkState, LocationState, StatusState
from agent.wire.batch import BatchHeader
from agent.wire.body import pack_body
from agent.wire.codec import encode_batch, encode_state
from agent.wire.row import Row
from agent.wire.topics import Topics

BOOT_ID = "0" * 32


@dataclass(frozen=True, slots=True)
class UnitVoice:
    """One unit with one store.

    Attributes:
        topics: whose.
        journal: identity of its store.
        boot: count of its boots.
    """

    topics: Topics
    journal: int = 7
    boot: int = 1

    def batch(
        self,
        stream: Stream,
        first: int,
        bodies: Sequence[tuple[int, Body]],
        *,
        replay: bool = False,
        history: bool = False,
    ) -> tuple[str, bytes]:
        """Topic and payload of records with ascending numbers; each has its UTC in Unix ms."""
        header = BatchHeader(
            self.topics.unit, stream, self.journal, self.boot, history=history, replay=replay
        )
        rows = [
            Row(
                first + at,
                int(_kind(body)),
                self.boot,
                1000 + first + at,
                utc_ms,
                int(UtcSource.GNSS),
                500,
                pack_body(body),
            )
            for at, (utc_ms, body) in enumerate(bodies)
        ]
        return self.topics.journal(stream), encode_batch(header, rows).payload

    def positions(
        self, first: int, count: int, utc_ms: int, *, lat: float = 42.35, lon: float = -71.06
    ) -> tuple[str, bytes]:
        """A batch of positions, one a second."""
        bodies: list[tuple[int, Body]] = [
            (
                utc_ms + 1000 * at,
                Position(
                    lat + 1e-4 * at, lon - 1e-4 * at, 12.0, 9.5, (37.0 + at) % 360, FixMode.FIX_3D, 12, 0.8
                ),
            )
            for at in range(count)
        ]
        return self.batch(Stream.TRAIL, first, bodies)

    def status(self, seq: int, status: str, utc_ms: int, *, previous: str | None = None) -> tuple[str, bytes]:
        """A press."""
        return self.batch(Stream.EVENTS, seq, [(utc_ms, StatusChange(status, previous, status, seq, 1))])

    def emergency(self, seq: int, utc_ms: int, *, active: bool = True) -> tuple[str, bytes]:
        """The emergency button."""
        return self.batch(Stream.EVENTS, seq, [(utc_ms, Emergency(active, "emergency", seq, 1))])

    def link(
        self,
        session: int,
        *,
        online: bool,
        utc_ms: int | None = None,
        events_seq: int = 0,
        trail_seq: int = 0,
        parked: bool | None = None,
    ) -> tuple[str, bytes]:
        """A birth or a will."""
        state = LinkState(
            1,
            _utc(utc_ms),
            session,
            online,
            BOOT_ID,
            self.boot,
            self.journal,
            "0.1.0",
            5,
            events_seq=events_seq if online else None,
            trail_seq=trail_seq if online else None,
            parked=parked,
        )
        return self.topics.state("link"), encode_state(state).payload

    def location(
        self, utc_ms: int | None, lat: float, lon: float, *, speed_mps: float = 9.0, course_deg: float = 45.0
    ) -> tuple[str, bytes]:
        """Where it is."""
        position = Position(lat, lon, 10.0, speed_mps, course_deg, FixMode.FIX_3D, 11, 0.9)
        return self.topics.state("location"), encode_state(
            LocationState(1, _utc(utc_ms), position, FixMode.FIX_3D)
        ).payload

    def no_fix(self, utc_ms: int, lat: float, lon: float, last_ms: int) -> tuple[str, bytes]:
        """Where it was."""
        last = Position(lat, lon, 10.0, 9.0, 45.0, FixMode.FIX_3D, 11, 0.9)
        state = LocationState(1, _utc(utc_ms), None, FixMode.NONE, last, _utc(last_ms))
        return self.topics.state("location"), encode_state(state).payload

    def status_state(
        self, status: str | None, utc_ms: int, seq: int | None, *, emergency: bool = False
    ) -> tuple[str, bytes]:
        """What the crew last said."""
        state = StatusState(1, _utc(utc_ms), status, _utc(utc_ms), seq, emergency, journal=self.journal)
        return self.topics.state("status"), encode_state(state).payload


def _kind(body: Body) -> Kind:
    from agent.domain.record import KIND_OF_BODY

    return KIND_OF_BODY[type(body)]


def _utc(utc_ms: int | None) -> Utc | None:
    return None if utc_ms is None else Utc(utc_ms, UtcSource.GNSS, 500)
