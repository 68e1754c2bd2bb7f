"""The retained states: what is true now, newest wins, nothing is buffered."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from agent import config
from agent.domain.state import (
    DestinationState,
    HealthState,
    LinkState,
    LocationState,
    State,
    StatusState,
    UnitState,
    VehicleState,
)
from agent.runtime.log import EventLog
from agent.uplink.link.link import Link, Message
from agent.uplink.link.refusal import FAILURE
from agent.uplink.packet_limit import LEAST_BYTES, PacketLimit
from agent.uplink.window import Window
from agent.wire.batch import CodecError
from agent.wire.codec import encode_state
from agent.wire.topics import Topics

log = EventLog("uplink")

ORDER = tuple(
    kind.name
    for kind in (
        LinkState,
        StatusState,
        LocationState,
        UnitState,
        DestinationState,
        VehicleState,
        HealthState,
    )
)
"""Which goes first when several wait: what dispatch needs most."""
AHEAD = frozenset({LinkState.name, StatusState.name})
"""Rare and short, and what dispatch acts on: these do not wait in line behind journal batches."""
REFUSED_PAUSE_S = 10.0
"""How long a state that the broker refused waits before it is offered again."""


class StateSender:
    """Publishes states on one connection as soon as the window has room, at most one of a name at a time.

    On a slow link a newer state thus replaces one that still waits, instead of queueing behind it.
    """

    def __init__(  # noqa: PLR0917  # the parts of the uplink that it stands between
        self,
        settings: config.Uplink,
        topics: Topics,
        states: Mapping[str, State],
        link: Link,
        window: Window,
        limit: PacketLimit,
        rng: random.Random,
    ) -> None:
        """Store the parts. All of `states` is to be sent; it is looked at again whenever one may go."""
        self._settings = settings
        self._topics = topics
        self._states = states
        self._link = link
        self._window = window
        self._limit = limit
        self._rng = rng
        self._waiting = set(states)
        self._in_flight: dict[str, int] = {}
        """Name to size of the packet."""
        self._paused: dict[str, float] = {}
        """Name to the time at which it is offered again."""
        self._refused: set[str] = set()
        self._changes: dict[str, VehicleState] = {}
        """Name to what changed of a state that this broker has, and that waits to go."""

    @property
    def refused(self) -> frozenset[str]:
        """Names of the states that this broker refused when they were last offered."""
        return frozenset(self._refused)

    @property
    def settled(self) -> bool:
        """True when the broker has every state as it is now, but those that it refuses."""
        return not self._waiting - self._paused.keys() and not self._in_flight

    @property
    def largest_under_way_bytes(self) -> int:
        """Size of the largest packet that was not answered; 0 when there is none."""
        return max(self._in_flight.values(), default=0)

    def changed(self, name: str, changes: State | None = None) -> None:
        """The state of that name was replaced.

        Args:
            name: of the state.
            changes: what alone changed, when that is all that needs to go to a broker that has the rest.
        """
        whole_waits = name in self._waiting and name not in self._changes
        if isinstance(changes, VehicleState) and changes.complete is False and not whole_waits:
            waiting = self._changes.get(name)
            self._changes[name] = changes if waiting is None else changes.over(waiting)
        else:
            self._changes.pop(name, None)
        self._waiting.add(name)
        self.send()

    def tend(self, now: float) -> None:
        """Offer what was refused again, once its pause is over."""
        due = [name for name, until in self._paused.items() if until <= now]
        for name in due:
            del self._paused[name]
        if due:
            self.send()

    def send(self) -> None:
        """Send what waits and has room."""
        if not self._waiting:
            return
        for name in ORDER:
            if name not in self._waiting or name in self._in_flight or name in self._paused:
                continue
            if not self._has_turn(name):
                return
            self._waiting.discard(name)
            changes = self._changes.pop(name, None)
            message = self._message(changes or self._states[name])
            if message is not None:
                self._publish(name, message)
        self._window.withdraw(self)

    def _has_turn(self, name: str) -> bool:
        return self._window.may_send(self, first_class=False) or (
            name in AHEAD and self._window.has_room(first_class=False)
        )

    def _publish(self, name: str, message: Message) -> None:
        self._in_flight[name] = message.packet_bytes()
        landed = partial(self._landed, name)
        self._window.sent(self, self._link.publish(message), landed, asyncio.get_running_loop().time())

    def _landed(self, name: str, code: int) -> None:
        size_bytes = self._in_flight.pop(name)
        self._refused.discard(name)
        if code < FAILURE:
            self._limit.taken(size_bytes)
            return
        self._waiting.add(name)
        self._changes.pop(name, None)  # what was refused may have held others: the whole goes instead
        log.warning("state_refused", name=name, code=f"0x{code:02x}")
        self._refused.add(name)
        pause_s = self._rng.uniform(0.5, 1.0) * REFUSED_PAUSE_S
        self._paused[name] = asyncio.get_running_loop().time() + pause_s

    def _message(self, state: State, *, retain: bool | None = None) -> Message | None:
        """The state as it goes out; None when it can not, which is logged.

        Args:
            state: all of it, or a part. Of the vehicle's, what makes the packet too large waits to follow it.
            retain: whether the broker keeps it; None to tell by the state.
        """
        try:
            encoded = encode_state(state, self._settings.encoding)
        except CodecError as error:
            # Whoever made the state has work of its own to do: a value out of bounds must not end it.
            log.error("state_not_encoded", name=state.name, why=error)
            return None
        expiry_s = None
        if isinstance(state, LocationState) and self._settings.position_expiry_s:
            expiry_s = self._settings.position_expiry_s
        is_partial = isinstance(state, VehicleState) and state.complete is False
        # Who comes later needs the whole picture, not what changed last.
        retain = not is_partial if retain is None else retain
        message = Message(
            self._topics.state(state.name),
            encoded.payload,
            retain=retain,
            content_type=encoded.content_type,
            expiry_s=expiry_s,
            urgent=True,
        )
        if (
            isinstance(state, VehicleState)
            and message.packet_bytes() > LEAST_BYTES
            and len(state.signals) > 1
        ):
            return self._message(self._first_part(state), retain=retain)
        return message

    def _first_part(self, state: VehicleState) -> VehicleState:
        """Half of the signals; the others wait to go after them, or what of them is newer."""
        half = len(state.signals) // 2
        rest = replace(state, signals=state.signals[half:], complete=False)
        waiting = self._changes.get(state.name)
        self._changes[state.name] = rest if waiting is None else waiting.over(rest)
        self._waiting.add(state.name)
        return replace(state, signals=state.signals[:half], complete=False)
