"""The retained states: what is true now, newest wins, nothing is buffered."""

from __future__ import annotations

import asyncio
import logging
import random
from functools import partial

from agent import config
from agent.domain.state import HealthState, LinkState, LocationState, State, StatusState, VehicleState
from agent.uplink.link.link import Link, Message
from agent.uplink.link.refusal import FAILURE, PACKET_TOO_LARGE
from agent.uplink.packet_limit import PacketLimit
from agent.uplink.window import Window
from agent.wire.batch import CodecError
from agent.wire.codec import encode_state
from agent.wire.topics import Topics

LOG = logging.getLogger("mdt.uplink")

ORDER = tuple(kind.name for kind in (LinkState, StatusState, LocationState, VehicleState, HealthState))
"""Which goes first when several wait: what dispatch needs most."""
AHEAD = frozenset({LinkState.name, StatusState.name})
"""Rare and short, and what dispatch acts on: these do not wait in line behind journal batches."""
REFUSED_PAUSE_S = 10.0
"""How long a state that the broker refused waits before it is offered again."""


class StateSender:
    """Publishes states as soon as the window has room; of each name at most one is in flight.

    On a slow link a newer state thus replaces one that still waits, instead of queueing behind it.
    """

    def __init__(  # noqa: PLR0917  # the parts of the uplink that it stands between
        self,
        settings: config.Uplink,
        topics: Topics,
        link: Link,
        window: Window,
        limit: PacketLimit,
        rng: random.Random,
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._link = link
        self._window = window
        self._limit = limit
        self._rng = rng
        self._states: dict[str, State] = {}
        self._waiting: set[str] = set()
        self._in_flight: dict[str, int] = {}
        """Name to size of the packet."""
        self._paused: set[str] = set()
        self._epoch = 0
        self._open = False
        self._too_large: dict[str, int] = {}
        """Name to size of the packet."""
        self._refused: set[str] = set()

    @property
    def too_large(self) -> frozenset[str]:
        """Names of the states that are larger than what this broker takes."""
        return frozenset(self._too_large)

    @property
    def refused(self) -> frozenset[str]:
        """Names of the states that this broker refused when they were last offered."""
        return frozenset(self._refused)

    @property
    def settled(self) -> bool:
        """True when the broker has every state as it is now, but those that it refuses."""
        return not self._waiting - self._paused and not self._in_flight

    def set(self, state: State) -> None:
        """Replace the state of its name."""
        self._states[state.name] = state
        self._waiting.add(state.name)
        self.send()

    @property
    def largest_under_way_bytes(self) -> int:
        """Size of the largest packet that was not answered; 0 when there is none."""
        return max(self._in_flight.values(), default=0)

    def open(self) -> None:
        """A connection stands: everything is sent anew."""
        self._reset()
        self._open = True
        self._too_large.clear()
        self._waiting = set(self._states)
        self.send()

    def close(self) -> None:
        """The connection ended."""
        self._reset()

    def _reset(self) -> None:
        self._epoch += 1
        self._open = False
        self._in_flight.clear()
        self._paused.clear()
        self._refused.clear()

    def send(self) -> None:
        """Send what waits and has room."""
        if not self._open:
            return
        # What was learnt of the broker passes: what it kept back goes then.
        self._waiting.update(name for name, size in self._too_large.items() if self._may_try(name, size))
        if not self._waiting:
            return
        for name in ORDER:
            if name not in self._waiting or name in self._in_flight or name in self._paused:
                continue
            if not self._has_turn(name):
                return
            self._waiting.discard(name)
            message = self._message(self._states[name])
            if message is not None:
                self._publish(name, message)
        self._window.withdraw(self)

    def _has_turn(self, name: str) -> bool:
        return self._window.may_send(self, first_class=False) or (
            name in AHEAD and self._window.has_room(first_class=False)
        )

    def _publish(self, name: str, message: Message) -> None:
        self._in_flight[name] = message.packet_bytes()
        landed = partial(self._landed, name, self._epoch)
        self._window.sent(self, self._link.publish(message), landed, asyncio.get_running_loop().time())

    def _landed(self, name: str, epoch: int, code: int) -> None:
        if epoch != self._epoch:
            return
        size_bytes = self._in_flight.pop(name)
        self._refused.discard(name)
        if code < FAILURE:
            self._limit.taken(size_bytes)
            return
        self._waiting.add(name)
        if code == PACKET_TOO_LARGE and name not in AHEAD and self._limit.refused(size_bytes):
            return
        LOG.warning("state_refused name=%s code=0x%02x", name, code)
        self._refused.add(name)
        self._paused.add(name)
        pause_s = self._rng.uniform(0.5, 1.0) * REFUSED_PAUSE_S
        asyncio.get_running_loop().call_later(pause_s, self._again, name, epoch)

    def _again(self, name: str, epoch: int) -> None:
        if epoch == self._epoch:
            self._paused.discard(name)
            self.send()

    def _message(self, state: State) -> Message | None:
        """The state as it goes out; None when it can not, which is logged."""
        try:
            encoded = encode_state(state, self._settings.encoding)
        except CodecError as error:
            # Whoever made the state has work of its own to do: a value out of bounds must not end it.
            LOG.error("state_not_encoded name=%s why=%s", state.name, error)
            return None
        expiry_s = None
        if isinstance(state, LocationState) and self._settings.position_expiry_s:
            expiry_s = self._settings.position_expiry_s
        message = Message(
            self._topics.state(state.name),
            encoded.payload,
            retain=True,
            content_type=encoded.content_type,
            expiry_s=expiry_s,
            urgent=True,
        )
        known = self._too_large.pop(state.name, None)
        if not self._may_try(state.name, message.packet_bytes()):
            self._too_large[state.name] = message.packet_bytes()
            if known is None:  # once, not with every change: the log is on the memory card as well
                LOG.warning("state_too_large name=%s bytes=%s", state.name, message.packet_bytes())
            return None
        return message

    def _may_try(self, name: str, size_bytes: int) -> bool:
        """Whether it may go: what was only learnt keeps back no state that dispatch acts on."""
        told_bytes = self._limit.told_bytes
        if name in AHEAD:
            return told_bytes is None or size_bytes <= told_bytes
        return self._limit.fits(size_bytes)
