"""What every rig can do, the states a rig is in, and the strategy that moves it between them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol, Self

from agent.domain.record import Stream
from hil.dispatch import Dispatch
from hil.process.press_log import PressLog

RigKind = Literal["sim", "process"]
"""Rigs that run scenarios."""

Device = Literal["gnss", "can", "buttons"]
"""What can be unplugged."""

DiskTrouble = Literal["full", "read_only", "io_error", "unreadable"]
"""What a disk can say instead of taking a write; "unreadable": it takes writes, and gives nothing back."""


class NotOnThisRigError(Exception):
    """This rig can not do what was asked of it; the text says which one can."""


@dataclass(frozen=True, slots=True)
class NetworkCondition:
    """What the vehicle's way to the broker is like.

    Attributes:
        cut: connections are ended and refused.
        half_open: packets vanish and nobody is told.
        delay_s: one-way delay beside the network's own.
        jitter_s: up to this much more, at random; what is sent stays in order, as TCP keeps it.
        bytes_per_s: bandwidth, None for no limit.
    """

    cut: bool = False
    half_open: bool = False
    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float | None = None


CLEAR = NetworkCondition()


@dataclass(frozen=True, slots=True)
class Sample:
    """How the agent was at one moment.

    Attributes:
        at_s: loop time.
        connected: the agent says that a broker took it; None while it does not answer.
        backlog: records that wait, in memory or on the disk; None while it does not answer.
        memory_kib: resident memory of the daemon's process; None where it has none of its own.
    """

    at_s: float
    connected: bool | None
    backlog: int | None
    memory_kib: int | None


class Rig(Protocol):
    """A vehicle with its devices, a network, a broker and dispatch. Used as `async with`, from one loop.

    Attributes:
        kind: which rig this is.
        dispatch: a consumer with a way of its own to the broker.
        presses: every press, with when its lamp and dispatch told of it.
        daemon_ends_s: loop times at which a daemon ended, however it came.
    """

    kind: RigKind
    dispatch: Dispatch
    presses: PressLog
    daemon_ends_s: list[float]

    @property
    def starts(self) -> int:
        """How often the daemon was started."""
        ...

    async def __aenter__(self) -> Self:
        """Build up all but the daemon."""
        ...

    async def __aexit__(self, *_: object) -> None:
        """End everything."""
        ...

    async def boot(self) -> None:
        """Power on, start the daemon, wait until it is ready."""
        ...

    async def shut_down(self) -> None:
        """Stop the daemon in order. Idempotent."""
        ...

    async def power_cut(self) -> None:
        """Take the computer's power away; `boot` gives it back."""
        ...

    async def kill(self) -> None:
        """End the daemon at once, as a crash would; it is started again as in the vehicle."""
        ...

    def freeze(self) -> None:
        """Stop the daemon's process from running."""
        ...

    def thaw(self) -> None:
        """Let it run again."""
        ...

    def step_clock(self, by_ms: int) -> None:
        """Step the computer's wall clock."""
        ...

    def say_nmea(self, data: bytes) -> None:
        """The receiver sends bytes."""
        ...

    def say_can(self, bus: str, can_id: int, *, extended: bool, data: bytes) -> None:
        """A frame is on the bus."""
        ...

    def press(self, key: str) -> None:
        """A button goes down; one that is down already stays so."""
        ...

    def release(self, key: str) -> None:
        """A button goes up."""
        ...

    def unplug(self, device: Device) -> None:
        """Pull a device's cable."""
        ...

    def plug(self, device: Device) -> None:
        """Put it back."""
        ...

    def restart_box(self) -> None:
        """Switch the button box off and on: it forgets everything."""
        ...

    async def set_network(self, condition: NetworkCondition) -> None:
        """What the vehicle's way to the broker is like from now on."""
        ...

    async def drop_connections(self) -> None:
        """End the vehicle's connections once."""
        ...

    async def stop_broker(self, *, unsaved: bool) -> None:
        """Stop the broker in order, or kill it so that what it did not save is gone."""
        ...

    async def start_broker(self) -> None:
        """Start it again on the same address."""
        ...

    async def refuse(self, *, on: bool) -> None:
        """Whether the broker says "not authorised" to the vehicle."""
        ...

    def set_disk(self, trouble: DiskTrouble | None) -> None:
        """What the disk of the outbox says to writes from now on."""
        ...

    async def sample(self) -> Sample:
        """How the agent is now."""
        ...

    async def wait_delivered(self, within_s: float) -> bool:
        """Wait until nothing waits in the outbox and dispatch misses nothing; False when time ran out."""
        ...

    def made(self) -> Mapping[Stream, int]:
        """Last sequence number of each stream on the disk; only after `shut_down`."""
        ...

    def boots(self) -> Mapping[str, float]:
        """Kernel boot id to the loop time at which its CLOCK_BOOTTIME was 0."""
        ...


class RigState(StrEnum):
    """Where a rig is."""

    OFF = "off"
    BOOTING = "booting"
    RUNNING = "running"
    DRIVING = "driving"
    FAULTED = "faulted"


_ON = (RigState.RUNNING, RigState.DRIVING, RigState.FAULTED)


class StrategyError(Exception):
    """A rig can not get from one state to another; the text names both."""


class Strategy:
    """Moves a rig between its states, one step at a time.

    Faults are counted: the rig is faulted from the first that is applied until the last is lifted. A rig
    whose computer has no power is faulted, not off: the strategy alone switches it off for good.

    Attributes:
        state: where the rig is.
        history: (loop time, state) of every change.
    """

    def __init__(self, rig: Rig) -> None:
        self.state = RigState.OFF
        self.history: list[tuple[float, RigState]] = []
        self._rig = rig
        self._faults = 0

    async def to(self, wanted: RigState) -> None:
        """Go to `wanted`, through what lies between. Raises StrategyError."""
        if wanted is self.state:
            return
        if wanted is RigState.OFF:
            await self._rig.shut_down()
            self._enter(RigState.OFF)
            return
        if wanted not in (RigState.RUNNING, RigState.DRIVING) or self._faults:
            raise StrategyError(f"no way from {self.state} to {wanted}: faults are applied, not gone to")
        if self.state is RigState.OFF:
            self._enter(RigState.BOOTING)
            await self._rig.boot()
            self._enter(RigState.RUNNING)
        if wanted is not self.state:
            self._enter(wanted)

    def fault_applied(self) -> None:
        """A fault begins. Raises StrategyError on a rig that is not on."""
        if self.state not in _ON:
            raise StrategyError(f"a fault needs a rig that is on; it is {self.state}")
        self._faults += 1
        if self._faults == 1:
            self._enter(RigState.FAULTED)

    def fault_lifted(self) -> None:
        """A fault is over."""
        self._faults -= 1
        if not self._faults:
            self._enter(RigState.DRIVING)

    def _enter(self, state: RigState) -> None:
        self.state = state
        self.history.append((asyncio.get_running_loop().time(), state))
