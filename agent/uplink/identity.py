"""Whether somebody else speaks for this unit, or has spoken under this store's numbers.

A memory card that is put back from an image, or copied into a second computer, gives numbers out twice:
readers take the second record for a repeat of the first. What the broker keeps of the unit, its link and its
status, shows that before the first record is sent.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import Stream
from agent.domain.state import LinkState, StatusState
from agent.outbox.fault import StoreFaultError
from agent.runtime.log import EventLog
from agent.uplink.link.link import Closed, Opened, Received
from agent.uplink.records import Records
from agent.wire.batch import CodecError
from agent.wire.codec import decode_state
from agent.wire.topics import Topics

TAKEN_OVER_TWICE_WITHIN_S = 600.0
"""A unit that lost its place twice within so long has a twin that is alive."""
HUNG_UP_LATELY_S = 60.0
CONFLICT_FOR_S = 600.0
"""So long after its last sign of life a twin is believed to be gone."""
RENEW_AGAIN_S = 5.0
"""After so long a new journal that the disk refused is begun again."""
_SESSIONS = 64

log = EventLog("uplink")


@dataclass(frozen=True, slots=True)
class Own:
    """What this unit knows of itself.

    Attributes:
        journal: identity of its store's numbers.
        boot: the store's count of this boot.
        boot_ids: the kernel's id of each boot that the store knows of.
        last_seq: newest sequence number of each stream.
    """

    journal: int
    boot: int
    boot_ids: Mapping[int, str]
    last_seq: Mapping[Stream, int]


def forked(own: Own, link: LinkState | None, status: StatusState | None) -> str:
    """Why this store must be an older or another copy of the one whose records were sent under its journal.

    Empty when nothing says so. What a broker does not keep can not be looked at, and is not guessed.

    Args:
        own: this unit.
        link: what the broker keeps as the unit's link, but for what this very process has said.
        status: the same of its status.
    """
    if link is not None and link.journal == own.journal:
        if link.boot > own.boot:
            return f"boot {link.boot} has used this journal, and this is boot {own.boot}"
        if own.boot_ids.get(link.boot, link.boot_id) != link.boot_id:
            return (
                f"another computer, or a later copy of this store, has used this journal in boot {link.boot}"
            )
        for stream, told in ((Stream.EVENTS, link.events_seq), (Stream.TRAIL, link.trail_seq)):
            if told is not None and told > own.last_seq[stream]:
                return f"{stream} {told} was delivered, and the store ends at {own.last_seq[stream]}"
    if status is not None and status.journal == own.journal:
        newest = max(status.seq or 0, status.emergency_seq or 0)
        if newest > own.last_seq[Stream.EVENTS]:
            return f"status {newest} was told, and the store ends at {own.last_seq[Stream.EVENTS]}"
    return ""


class Twin:
    """Signs of life of another client that speaks for this unit."""

    def __init__(self) -> None:
        self._sessions: deque[int] = deque(maxlen=_SESSIONS)
        self._taken_over: deque[float] = deque(maxlen=2)
        self._hung_up_at = -math.inf
        self._alive_until: float | None = None
        self.detail = ""

    def speak(self, session: int) -> None:
        """A session number of ours."""
        self._sessions.append(session)

    def is_ours(self, link: LinkState, boot_id: str) -> bool:
        """Whether this process, in this boot, said so itself or left it to the broker to say."""
        return link.session in self._sessions and link.boot_id == boot_id

    def taken_over(self, now: float) -> None:
        """Another client connected with our client identifier."""
        self._taken_over.append(now)
        twice = len(self._taken_over) == self._taken_over.maxlen
        if twice and now - self._taken_over[0] <= TAKEN_OVER_TWICE_WITHIN_S:
            self._seen("another client takes our place at the broker again and again", now)

    def hung_up(self, now: float) -> None:
        """The broker ended a connection that stood, and did not say why: not all of them name a take-over."""
        self._hung_up_at = now

    def displaced(self, now: float) -> bool:
        """Whether somebody took our place lately, or may have done so."""
        taken_over = bool(self._taken_over) and now - self._taken_over[-1] <= TAKEN_OVER_TWICE_WITHIN_S
        return taken_over or now - self._hung_up_at <= HUNG_UP_LATELY_S

    def spoke(self, link: LinkState, now: float) -> None:
        """Another client said that this unit is there."""
        self._seen(f"another computer speaks for this unit (boot id {link.boot_id})", now)

    def alive(self, now: float) -> bool:
        """Whether there was a sign of life lately."""
        return self._alive_until is not None and now < self._alive_until

    def _seen(self, detail: str, now: float) -> None:
        self.detail = detail
        self._alive_until = now + CONFLICT_FOR_S


class Identity:
    """Looks at what is said in the unit's name; begins a new journal where the store is not the only one.

    Used from the event loop only.
    """

    def __init__(
        self, records: Records, topics: Topics, health: HealthBoard, changed: Callable[[], None]
    ) -> None:
        """Store the parts.

        Args:
            records: the store.
            topics: of this unit.
            health: where a twin is told.
            changed: called when there is something to `tend`, or records may go again.
        """
        self._records = records
        self._topics = (topics.state(LinkState.name), topics.state(StatusState.name))
        self._health = health
        self._changed = changed
        self._twin = Twin()
        self._link: LinkState | None = None
        self._status: StatusState | None = None
        self._why = ""
        self._looked_at = 0
        """The journal that was compared with what the broker keeps."""
        self._renewing: asyncio.Task[None] | None = None
        self._renew_at = 0.0

    @property
    def topics(self) -> tuple[str, ...]:
        """What to subscribe to."""
        return self._topics

    def topics_granted(self, opened: Opened) -> bool:
        """Whether the broker lets us look."""
        return self._topics[0] not in opened.refused_subscriptions

    @property
    def seen(self) -> bool:
        """True when the broker has told all that it can keep of us."""
        return self._link is not None and self._status is not None

    @property
    def forked(self) -> bool:
        """True while records must not go: their numbers were given out before."""
        if self._looked_at != self._records.journal:
            self.look()  # the store could be opened only now, or is another one
        return bool(self._why)

    def speak(self, session: int) -> None:
        """A connection of ours with this session number is about to be made."""
        self._twin.speak(session)
        self._link = self._status = None

    def lost(self, closed: Closed, now: float) -> None:
        """A connection ended: perhaps because another client took our place."""
        if closed.taken_over:
            self._twin.taken_over(now)
        elif closed.hung_up:
            self._twin.hung_up(now)

    def take(self, received: Received, now: float) -> None:
        """What the broker keeps of this unit, or what another client says in its name."""
        name = LinkState.name if received.topic == self._topics[0] else StatusState.name
        try:
            state = decode_state(name, received.payload)
        except CodecError as error:
            log.warning("own_state_not_understood", name=name, why=error)
            return
        if isinstance(state, LinkState):
            self._link = state
            if not self._is_ours(state):
                self._hear(state, now, kept=received.retain)
        elif isinstance(state, StatusState) and received.retain:
            self._status = state

    def _is_ours(self, link: LinkState) -> bool:
        return self._twin.is_ours(link, self._records.boot_ids.get(self._records.boot, link.boot_id))

    def _hear(self, link: LinkState, now: float, *, kept: bool) -> None:
        same_store = link.journal == self._records.journal
        known = self._records.boot_ids.get(link.boot) == link.boot_id
        # What is kept of a computer that vanished just now looks alive; but with our store, or once somebody
        # took our place, it is another's.
        another = not known and (same_store or self._twin.displaced(now))
        if link.online and (not kept or another):
            self._twin.spoke(link, now)

    def look(self) -> None:
        """Whether the numbers of this store were given out before; then none of it goes until they differ."""
        if self._records.journal == 0 or self._why:
            return
        self._looked_at = self._records.journal
        own = Own(
            self._records.journal,
            self._records.boot,
            self._records.boot_ids,
            {stream: self._records.last_seq(stream) for stream in Stream},
        )
        link = None if self._link is None or self._is_ours(self._link) else self._link
        why = forked(own, link, self._status)
        if why:
            log.error("journal_forked", journal=f"{own.journal:08x}", why=why)
            self.begin_new_journal(why)

    def begin_new_journal(self, why: str) -> None:
        """Nothing goes any more under the journal that the store has."""
        self._why = self._why or why
        self._changed()

    def tend(self, now: float) -> None:
        """Begin the new journal that is wanted, again if the disk refused it; tell of a twin.

        Raises what ended the beginning, unless it was a fault of the disk.
        """
        if self._twin.alive(now):
            self._health.raise_(HealthReason.IDENTITY_CONFLICT, self._twin.detail)
        else:
            self._health.clear(HealthReason.IDENTITY_CONFLICT)
        if self._renewing is not None and self._renewing.done():
            self._begun(self._renewing, now)
        if self._why and self._renewing is None and now >= self._renew_at and self._records.journal:
            work = self._records.begin_new_journal(self._why)
            self._renewing = asyncio.create_task(work, name="uplink-new-journal")
            self._renewing.add_done_callback(lambda _: self._changed())

    def _begun(self, task: asyncio.Task[None], now: float) -> None:
        self._renewing = None
        try:
            task.result()
        except StoreFaultError as fault:
            log.error("no_new_journal", why=fault)
            self._renew_at = now + RENEW_AGAIN_S
        else:
            self._why = ""
            self._link = self._status = None
            self._changed()

    async def stop(self) -> None:
        """Wait a little for what is under way. Idempotent."""
        if self._renewing is not None:
            await asyncio.wait({self._renewing}, timeout=RENEW_AGAIN_S)
