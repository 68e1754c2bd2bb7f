"""The crew's buttons on a serial button box that keeps each press until it is on disk."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Literal, Protocol

from pydantic import Field

from agent.config import Baud, ButtonDevice, DevicePath
from agent.hal.buttons import ButtonEdge, Lamp
from agent.hal.clock import Clock
from agent.hal.errors import DeviceLostError, DeviceNotFoundError, DeviceProtocolError
from firmware_shims.button_box_protocol import (
    VERSION,
    Acknowledge,
    Event,
    Hello,
    LineReader,
    SetLamp,
    Sound,
    encode,
    lamps_digest,
)
from firmware_shims.serial_line import SerialLine

OFFSET_WINDOW_MS = 30_000
"""Half the time in which the least delay is sought: a crystal 100 ppm off drifts 6 ms in all of it."""
SLEPT_NS = 200_000_000
"""Less between two looks is the time between reading one clock and the other, and no sleep."""


class ButtonBox(ButtonDevice):
    """A serial button box with lamps (docs/button-box.md)."""

    kind: Literal["button_box"] = "button_box"
    device: DevicePath
    """The box's serial device."""
    baud: Baud = 115_200
    """Speed of the line."""
    silent_after_s: float = Field(5, gt=0, le=86_400)
    """The box says hello every second; silence for longer means that it is gone."""

    def files(self) -> tuple[str, ...]:
        """The serial device."""
        return (self.device,)


class Line(Protocol):
    """Bytes to and from the box: a `SerialLine`, or one in memory."""

    @property
    def device(self) -> str:
        """The device as configured."""
        ...

    async def open(self) -> None:
        """Open it. Raises HardwareError."""
        ...

    async def read(self) -> bytes:
        """Wait for at least one byte; safe to cancel. Raises HardwareError."""
        ...

    async def write(self, data: bytes) -> None:
        """Send all of `data`; concurrent writes do not mix. Raises HardwareError."""
        ...

    async def close(self) -> None:
        """Release it. Idempotent, never raises."""
        ...


@dataclass(slots=True)
class BoxClock:
    """Tells CLOCK_BOOTTIME from the box's clock of one power-up.

    Each line says when the box sent it; reception is later by the time on the way, which is never negative.
    The line with the least delay is therefore closest to the truth, and it is sought in the last one to two
    windows, so that a drifting crystal is followed. Sources: the minimum filter of NTP's clock filter
    algorithm (RFC 5905, section 10).
    """

    _least_ns: int | None = None
    _least_before_ns: int | None = None
    _window_from_ms: int = 0

    def sample(self, sent_ms: int, received_boottime_ns: int) -> None:
        """A line sent at `sent_ms` was received."""
        offset_ns = received_boottime_ns - sent_ms * 1_000_000
        if self._least_ns is None:
            self._least_ns, self._window_from_ms = offset_ns, sent_ms
        elif sent_ms - self._window_from_ms >= OFFSET_WINDOW_MS:
            self._least_before_ns = self._least_ns
            self._least_ns, self._window_from_ms = offset_ns, sent_ms
        else:
            self._least_ns = min(self._least_ns, offset_ns)

    def boottime_ns(self, box_ms: int) -> int:
        """CLOCK_BOOTTIME at `box_ms`; negative for what the box saw before the computer started."""
        known = [offset for offset in (self._least_ns, self._least_before_ns) if offset is not None]
        return min(known) + box_ms * 1_000_000


@dataclass(slots=True)
class _PowerUp:
    """What is known of one power-up of the box."""

    session: int
    clock: BoxClock = field(default_factory=BoxClock)
    delivered: int = 0
    acknowledged: set[int] = field(default_factory=set)
    through: int = 0
    """All up to here are acknowledged."""

    def acknowledge(self, seq: int) -> bool:
        """Note that the agent is done with `seq`; returns True when the box may forget more than before."""
        if seq <= self.through:
            return False
        self.acknowledged.add(seq)
        return self._advance()

    def skip_to(self, oldest: int) -> None:
        """The box keeps nothing before `oldest`: acknowledged to an earlier run, or its memory was full."""
        self.delivered = max(self.delivered, oldest - 1)
        if oldest - 1 > self.through:
            self.through = oldest - 1
            self.acknowledged = {seq for seq in self.acknowledged if seq >= oldest}
            self._advance()

    def _advance(self) -> bool:
        before = self.through
        while self.through + 1 in self.acknowledged:
            self.through += 1
            self.acknowledged.discard(self.through)
        return self.through != before


class SerialButtonBox:
    """Implements `ButtonPanel`.

    Edges are given out strictly in the box's own sequence: one that was damaged on its way is waited for, and
    the box sends it again. Lamps are compared with what the box says it shows, once a second, and told again
    when they differ, so that a damaged command or a box that was switched off mends itself.

    Args:
        line: the way to the box.
        clock: for boot-time stamps.
        silent_after_s: without a good line for this long the box is taken for lost.
    """

    def __init__(self, line: Line, clock: Clock, *, silent_after_s: float) -> None:
        self._line = line
        self._clock = clock
        self._silent_after_s = silent_after_s
        self._reader = LineReader()
        self._power_up: _PowerUp | None = None
        self._edges: deque[ButtonEdge] = deque()
        self._replies: list[bytes] = []
        self._lamps: dict[str, Lamp] = {}
        self._heard_at_s = 0.0
        self._slept_ns = clock.suspended_ns()
        self._is_open = False

    @property
    def name(self) -> str:
        """The device as configured."""
        return self._line.device

    @property
    def bad_lines(self) -> int:
        """Lines left out so far because they were damaged."""
        return self._reader.bad_lines

    async def open(self) -> None:
        """Open the line and wait until the box has said something.

        Raises:
            DeviceNotFoundError: no such device, or nothing on it that speaks like a box.
            DeviceLostError: it went away while it was waited for.
            DeviceProtocolError: a box of another protocol version.
        """
        if self._is_open:
            return
        await self._line.open()
        self._reader = LineReader()
        self._heard_at_s = asyncio.get_running_loop().time()
        try:
            while not await self._receive():
                pass
        except TimeoutError as error:
            await self._line.close()
            why = f"nothing here spoke like a button box for {self._silent_after_s:g} s"
            raise DeviceNotFoundError(self.name, why) from error
        except BaseException:
            await self._line.close()
            raise
        self._is_open = True

    async def read(self) -> Sequence[ButtonEdge]:
        """Wait for edges. Raises DeviceLostError when the box is gone or silent, DeviceProtocolError."""
        while not self._edges:
            try:
                await self._receive()
            except TimeoutError as error:
                raise DeviceLostError(self.name, f"silent for {self._silent_after_s:g} s") from error
        edges = tuple(self._edges)
        self._edges.clear()
        return edges

    async def show(self, key: str, lamp: Lamp) -> None:
        """Light the lamp of `key`. Before `open` it is remembered. Raises DeviceLostError."""
        before = self._lamps.get(key, Lamp.OFF)
        self._lamps[key] = lamp
        # A lamp that is lit is told again: a box lights "not stored" by itself when its key goes down.
        if self._is_open and not lamp == before == Lamp.OFF:
            await self._line.write(encode(SetLamp(key, lamp)))

    async def acknowledge(self, edge: ButtonEdge) -> None:
        """Let the box forget `edge`, as soon as all before it may be forgotten too. Raises DeviceLostError.

        Before `open` it is remembered, and told when the box sends the edge again.
        """
        power_up = self._power_up
        if power_up is None or edge.device_seq is None or edge.device_session != power_up.session:
            return
        if power_up.acknowledge(edge.device_seq) and self._is_open:
            await self._line.write(encode(Acknowledge(power_up.session, power_up.through)))

    async def sound(self, pattern_ms: Sequence[int]) -> None:
        """Let the box sound. Nothing is kept: a sound that comes late tells a lie. Raises DeviceLostError."""
        if self._is_open:
            await self._line.write(encode(Sound(tuple(pattern_ms))))

    def noise(self) -> Mapping[str, int]:
        """None: a box debounces, and what it loses shows in its numbers."""
        return {}

    async def close(self) -> None:
        """Release the line; what the box keeps comes again after the next `open`."""
        self._is_open = False
        self._replies.clear()
        await self._line.close()

    async def _receive(self) -> bool:
        """Wait for bytes, take what they say, and answer; returns True when they held a good line.

        Nothing that was received is lost when it is cancelled. Raises TimeoutError when the box is silent.
        """
        await self._reply()
        async with asyncio.timeout_at(self._heard_at_s + self._silent_after_s):
            data = await self._line.read()
        received_ns = self._clock.boottime_ns()
        # Anything else is our own words, echoed by a terminal that was not yet set up.
        heard = [message for message in self._reader.feed(data) if isinstance(message, Hello | Event)]
        if heard:
            self._heard_at_s = asyncio.get_running_loop().time()
        for session, messages in groupby(heard, key=attrgetter("session")):
            if self._power_up is None or self._power_up.session != session:
                self._power_up = _PowerUp(session)
            self._take(self._power_up, list(messages), received_ns)
        await self._reply()
        return bool(heard)

    def _take(self, power_up: _PowerUp, messages: list[Hello | Event], received_ns: int) -> None:
        before_ns, self._slept_ns = self._slept_ns, self._clock.suspended_ns()
        if self._slept_ns - before_ns >= SLEPT_NS:
            # A box that is fed by the computer may have slept as well, and its clock with it.
            power_up.clock = BoxClock()
        # All clock readings first: of lines that had to wait for us together the last was delayed least.
        for message in messages:
            power_up.clock.sample(message.sent_ms, received_ns)
        through = power_up.through
        repeated = False
        for message in messages:
            power_up.skip_to(message.oldest)
            if isinstance(message, Hello):
                self._compare_lamps(power_up, message)
            elif message.seq == power_up.delivered + 1:
                self._deliver(power_up, message, received_ns)
            else:
                repeated |= message.seq <= through
        if repeated:
            self._replies.append(encode(Acknowledge(power_up.session, power_up.through)))

    def _deliver(self, power_up: _PowerUp, event: Event, received_ns: int) -> None:
        power_up.delivered = event.seq
        at_ns = min(power_up.clock.boottime_ns(event.at_ms), received_ns)
        self._edges.append(ButtonEdge(event.key, event.pressed, event.seq, at_ns, event.session))
        if event.pressed:
            self._lamps[event.key] = Lamp.NOT_STORED  # as the box did by itself

    def _compare_lamps(self, power_up: _PowerUp, hello: Hello) -> None:
        if hello.version != VERSION:
            raise DeviceProtocolError(self.name, f"speaks protocol version {hello.version}, not {VERSION}")
        # While the box has a press that we do not, its lamp rightly says "not stored" and ours is out of
        # date.
        if hello.last <= power_up.delivered and hello.lamps != lamps_digest(self._lamps):
            self._replies.extend(encode(SetLamp(key, lamp)) for key, lamp in self._lamps.items())

    async def _reply(self) -> None:
        if self._replies:
            data = b"".join(self._replies)
            self._replies.clear()
            await self._line.write(data)


def button_box(settings: ButtonBox, clock: Clock) -> SerialButtonBox:
    """The box of a configuration."""
    line = SerialLine(settings.device, settings.baud)
    return SerialButtonBox(line, clock, silent_after_s=settings.silent_after_s)
