"""A button box without hardware: the box's side of its line protocol, and a PTY to put it on."""

from __future__ import annotations

import asyncio
import errno
import os
import pty
import random
import select
import tty
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.hal.buttons import Lamp
from firmware_shims.button_box_protocol import (
    VERSION,
    Acknowledge,
    Event,
    Hello,
    LineReader,
    Message,
    SetLamp,
    Sound,
    encode,
    lamps_digest,
)

HELLO_EVERY_S = 1.0
RESEND_EVERY_S = 0.5
RESEND_AT_ONCE = 8
"""Events sent again in one go, so that a line at 9600 baud is never full of repeats."""
KEEP_EVENTS = 256
TICK_S = 0.05


@dataclass(frozen=True, slots=True)
class _Kept:
    seq: int
    at_s: float
    pressed: bool
    key: str


@dataclass(frozen=True, slots=True)
class LampChange:
    """A lamp changed.

    Attributes:
        key: whose lamp.
        lamp: what it shows from now on.
        at_s: when, in the time of the box's owner (`loop.time()` on a PTY).
    """

    key: str
    lamp: Lamp
    at_s: float


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The agent has all events of a power-up up to one of them.

    Attributes:
        session: the power-up.
        through: sequence number of the last that it has.
        at_s: when, in the time of the box's owner.
    """

    session: int
    through: int
    at_s: float


class BoxFirmware:
    """What runs in a box, without its wires: handed the time, never asking for it.

    Attributes:
        lamps: what each lamp shows that was ever told anything.
        changes: every change of a lamp since the box was made, oldest first.
        acknowledgements: every acknowledgement that let the box forget something, oldest first.
        sounds: every pattern that the buzzer was told to sound, oldest first.

    Args:
        rng: makes the session number of each power-up.
        now_s: time of the first power-up.
    """

    def __init__(self, rng: random.Random, now_s: float) -> None:
        self._rng = rng
        self.lamps: dict[str, Lamp] = {}
        self.changes: list[LampChange] = []
        self.acknowledgements: list[Acknowledged] = []
        self.sounds: list[tuple[int, ...]] = []
        self.power_cycle(now_s)

    def power_cycle(self, now_s: float) -> None:
        """Switch the box off and on: a new session, no memory, all lamps dark."""
        self.session = self._rng.getrandbits(32)
        self._started_s = now_s
        self._last = 0
        self._kept: deque[_Kept] = deque()
        self._down: set[str] = set()
        self._next_hello_s = now_s
        self._next_resend_s = now_s
        self._reader = LineReader()
        for key in self.lamps:
            self._light(key, Lamp.OFF, now_s)
        self.lamps = {}

    @property
    def unacknowledged(self) -> int:
        """Number of events that the box still keeps."""
        return len(self._kept)

    @property
    def last_seq(self) -> int:
        """Sequence of the newest event, 0 before the first."""
        return self._last

    @property
    def due_s(self) -> float:
        """When `tick` next has something to say."""
        return min(self._next_hello_s, self._next_resend_s) if self._kept else self._next_hello_s

    def edge(self, key: str, pressed: bool, now_s: float) -> bytes:
        """A key moved, debounced; returns what the box sends. A key that is where it was sends nothing."""
        if (key in self._down) == pressed:
            return b""
        (self._down.add if pressed else self._down.discard)(key)
        self._last += 1
        if len(self._kept) == KEEP_EVENTS:
            self._kept.popleft()
        kept = _Kept(self._last, now_s, pressed, key)
        self._kept.append(kept)
        if pressed:
            self._light(key, Lamp.NOT_STORED, now_s)
        self._next_resend_s = now_s + RESEND_EVERY_S
        return self._event(kept, now_s)

    def tick(self, now_s: float) -> bytes:
        """What is due at `now_s`: hello, and events that nobody acknowledged."""
        sent = b""
        if now_s >= self._next_resend_s:
            self._next_resend_s = now_s + RESEND_EVERY_S
            sent += b"".join(self._event(kept, now_s) for kept in list(self._kept)[:RESEND_AT_ONCE])
        if now_s >= self._next_hello_s:
            self._next_hello_s = now_s + HELLO_EVERY_S
            sent += encode(
                Hello(
                    VERSION,
                    self.session,
                    self._last,
                    self._oldest(),
                    self._ms(now_s),
                    lamps_digest(self.lamps),
                )
            )
        return sent

    def greet(self, now_s: float) -> None:
        """Somebody opened the line (a USB box sees DTR rise): hello and what is kept are due at once."""
        self._next_hello_s = self._next_resend_s = now_s

    def receive(self, data: bytes, now_s: float) -> None:
        """Bytes from the agent."""
        for message in self._reader.feed(data):
            self._obey(message, now_s)

    def _obey(self, message: Message, now_s: float) -> None:
        match message:
            case Acknowledge(session, through) if session == self.session:
                if self._kept and self._kept[0].seq <= through:
                    self.acknowledgements.append(Acknowledged(session, through, now_s))
                while self._kept and self._kept[0].seq <= through:
                    self._kept.popleft()
            case SetLamp(key, lamp):
                self._light(key, lamp, now_s)
            case Sound(pattern_ms):
                self.sounds.append(pattern_ms)
            case _:
                pass  # of another power-up, or an echo of the box's own words

    def _light(self, key: str, lamp: Lamp, now_s: float) -> None:
        if self.lamps.get(key, Lamp.OFF) is not lamp:
            self.changes.append(LampChange(key, lamp, now_s))
        self.lamps[key] = lamp

    def _event(self, kept: _Kept, now_s: float) -> bytes:
        at_ms = self._ms(kept.at_s)
        return encode(
            Event(self.session, kept.seq, self._oldest(), self._ms(now_s), at_ms, kept.pressed, kept.key)
        )

    def _oldest(self) -> int:
        return self._kept[0].seq if self._kept else self._last + 1

    def _ms(self, now_s: float) -> int:
        return int((now_s - self._started_s) * 1000)


class PtyButtonBox:
    """A box on a PTY, for the serial driver to open. Used from the event loop only.

    Args:
        link: a symbolic link to the PTY that stays the same when the box is plugged in again, as udev's do.
        rng: makes session numbers.

    Attributes:
        firmware: the box itself.
    """

    def __init__(self, link: Path, rng: random.Random) -> None:
        self.link = link
        self._rng = rng
        self._master: int | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._reading = False
        self._heard = asyncio.Event()
        self.firmware: BoxFirmware

    async def start(self) -> None:
        """Power up and plug in."""
        self.firmware = BoxFirmware(self._rng, self._now_s())
        self.plug()
        self._ticking = asyncio.create_task(self._tick(), name="button box")

    async def stop(self) -> None:
        """Unplug and end. Idempotent."""
        self.unplug()
        ticking, self._ticking = self._ticking, None
        if ticking is not None:
            ticking.cancel()
            with suppress(asyncio.CancelledError):
                await ticking

    def plug(self) -> None:
        """Connect the cable. The box keeps running on its own supply while it is out."""
        if self._master is not None:
            return
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(self._master, False)
        target = os.ttyname(slave)
        os.close(slave)  # so that the master hangs up when the agent lets go, and nothing is kept for it
        fresh = self.link.with_name(self.link.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.replace(self.link)

    def unplug(self) -> None:
        """Pull the cable: the agent's end hangs up, the name goes."""
        master, self._master = self._master, None
        if master is not None:
            self._listen(master, on=False)
            os.close(master)
            self.link.unlink(missing_ok=True)

    def power_cycle(self) -> None:
        """Switch the box off and on at once, its cable in place (the serial adapter has its own supply)."""
        self.firmware.power_cycle(self._now_s())

    def press(self, key: str) -> float:
        """Push `key` down; returns when, in `loop.time()`."""
        return self._edge(key, pressed=True)

    def release(self, key: str) -> float:
        """Let `key` go; returns when."""
        return self._edge(key, pressed=False)

    async def click(self, key: str, hold_s: float = 0.15) -> float:
        """Press and release; returns when it was pressed."""
        pressed_s = self.press(key)
        await asyncio.sleep(hold_s)
        self.release(key)
        return pressed_s

    async def wait_lamp(self, key: str, *lamps: Lamp, within_s: float = 5.0) -> None:
        """Wait until the lamp of `key` shows one of `lamps`. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while self.firmware.lamps.get(key, Lamp.OFF) not in lamps:
                self._heard.clear()
                await self._heard.wait()

    async def wait_acknowledged(self, within_s: float = 5.0) -> None:
        """Wait until the agent has acknowledged every event. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while self.firmware.unacknowledged:
                self._heard.clear()
                await self._heard.wait()

    def _edge(self, key: str, *, pressed: bool) -> float:
        now_s = self._now_s()
        self._send(self.firmware.edge(key, pressed, now_s))
        return now_s

    async def _tick(self) -> None:
        while True:
            if self._master is not None and not self._reading and not self._nobody_there(self._master):
                self._listen(self._master, on=True)
                self.firmware.greet(self._now_s())
            self._send(self.firmware.tick(self._now_s()))
            await asyncio.sleep(TICK_S)

    def _listen(self, master: int, *, on: bool) -> None:
        loop = asyncio.get_running_loop()
        if on:
            loop.add_reader(master, self._receive, master)
        else:
            loop.remove_reader(master)
        self._reading = on

    def _receive(self, master: int) -> None:
        try:
            data = os.read(master, 4096)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self._listen(master, on=False)  # the agent let go; a hung-up PTY would wake us for ever
            return
        self.firmware.receive(data, self._now_s())
        self._heard.set()

    def _send(self, data: bytes) -> None:
        """Send as a UART does: what nobody takes is gone."""
        if data and self._master is not None and not self._nobody_there(self._master):
            with suppress(BlockingIOError):
                os.write(self._master, data)

    @staticmethod
    def _nobody_there(master: int) -> bool:
        poll = select.poll()
        poll.register(master, 0)
        return any(event & select.POLLHUP for _, event in poll.poll(0))

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
