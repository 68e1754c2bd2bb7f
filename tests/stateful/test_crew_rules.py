"""Presses through a harmed line, kills of the agent and pulled cables: each is recorded once, in order.

The real driver and the real rules stand between a box (its firmware, on a manual clock) and a list that plays
the store. The model is what the crew did.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.domain.crew import CANCEL_AFTER_NS, CANCEL_WITHIN_NS, ButtonEdge, CrewRules, CrewState
from agent.domain.record import Emergency, StatusChange
from agent.hal.clock import SystemUtc
from agent.hal.errors import DeviceLostError, DeviceNotFoundError
from firmware_shims.serial_button_box import SerialButtonBox
from firmware_shims.simulated.button_box import BoxFirmware

KEYS = {"free": "available", "route": "en_route", "scene": "on_scene", "help": "emergency"}
Body = StatusChange | Emergency


class Wire:
    """The line, the clock and the box at its end, all on one manual time."""

    device = "wire"
    boot_id = "0" * 32

    def __init__(self) -> None:
        self.now_s = 0.0
        self.box = BoxFirmware(random.Random(5), self.now_s)
        self.plugged = True
        self.harm = 0
        self._arrived = bytearray()

    def boottime_ns(self) -> int:
        return round(self.now_s * 1e9) + 10**12

    def suspended_ns(self) -> int:
        return 0

    def system_utc(self) -> SystemUtc:
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        if self.plugged:
            self._arrived += self._harmed(data)

    def _harmed(self, data: bytes) -> bytes:
        if not self.harm or not data:
            return data
        spoiled = bytearray(data)
        spoiled[self.harm % len(spoiled)] ^= 0x41
        return bytes(spoiled)

    async def open(self) -> None:
        if not self.plugged:
            raise DeviceNotFoundError(self.device, "out")
        self._arrived.clear()
        self.send(self.box.tick(self.now_s + 10))  # whatever is due

    async def read(self) -> bytes:
        if not self.plugged:
            raise DeviceLostError(self.device, "out")
        if not self._arrived:
            await asyncio.get_running_loop().create_future()
        data = bytes(self._arrived)
        self._arrived.clear()
        return data

    async def write(self, data: bytes) -> None:
        if not self.plugged:
            raise DeviceLostError(self.device, "out")
        self.box.receive(self._harmed(data), self.now_s)

    async def close(self) -> None:
        pass


class Presses(RuleBasedStateMachine):
    """Crew, box, line, agent and store."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.wire = Wire()
        self.down: dict[str, float] = {}
        self.holds_s: list[float] = []
        self.crew_status: str | None = None
        self.expected: list[str] = []
        self.emergencies = 0
        self.store: list[Body] = []
        self.start_agent()

    def start_agent(self) -> None:
        self.panel = SerialButtonBox(self.wire, self.wire, silent_after_s=1e6)
        self.is_open = False
        self.crew_rules = CrewRules(KEYS, CrewState().after(self.store))
        self.pending: deque[tuple[ButtonEdge, tuple[Body, ...]]] = deque()

    def listen(self) -> None:
        """Let the agent read what has arrived."""
        self.runner.run(self._listen())

    async def _listen(self) -> None:
        if not self.wire.plugged:
            self.is_open = False
            await self.panel.close()
            return
        try:
            async with asyncio.timeout(0):
                if not self.is_open:
                    await self.panel.open()
                    self.is_open = True
                while True:
                    for edge in await self.panel.read():
                        bodies = self.crew_rules.handle(edge).bodies
                        self.pending.append((edge, tuple(b for b in bodies if isinstance(b, Body))))
        except TimeoutError:
            pass

    def commit(self, *, acknowledge: bool) -> None:
        while self.pending:
            edge, bodies = self.pending.popleft()
            self.store.extend(bodies)
            if acknowledge:
                self.runner.run(self._acknowledge(edge))

    async def _acknowledge(self, edge: ButtonEdge) -> None:
        try:
            await self.panel.acknowledge(edge)
        except DeviceLostError:
            assert not self.wire.plugged

    @rule(after_ms=st.sampled_from([1, 150, 700, 2100, 5100, 12_000, 30_000]))
    def time_passes(self, after_ms: int) -> None:
        self.wire.now_s = round(self.wire.now_s + after_ms / 1000, 3)
        self.wire.send(self.wire.box.tick(self.wire.now_s))
        self.listen()

    @precondition(lambda self: self.wire.box.unacknowledged < 200)
    @rule(key=st.sampled_from(sorted(KEYS)))
    def crew_moves_a_key(self, key: str) -> None:
        pressed = key not in self.down
        self.wire.send(self.wire.box.edge(key, pressed, self.wire.now_s))
        if not pressed:
            held_s = self.wire.now_s - self.down.pop(key)
            self.holds_s += [held_s] if key == "help" else []
        else:
            self.down[key] = self.wire.now_s
            token = KEYS[key]
            if token == "emergency":
                self.emergencies += 1
            elif token != self.crew_status:
                self.crew_status = token
                self.expected.append(token)
        self.listen()

    @rule(harm=st.integers(1, 200))
    def line_goes_bad(self, harm: int) -> None:
        self.wire.harm = harm

    @rule()
    def line_is_mended(self) -> None:
        self.wire.harm = 0

    @rule()
    def cable_is_pulled_or_put_back(self) -> None:
        self.wire.plugged = not self.wire.plugged
        self.listen()

    @rule()
    def store_commits(self) -> None:
        self.commit(acknowledge=True)

    @rule(after_commit=st.booleans())
    def agent_is_killed(self, after_commit: bool) -> None:
        if after_commit:
            self.commit(acknowledge=False)
        self.start_agent()
        self.listen()

    @precondition(lambda self: not self.wire.box.unacknowledged and not self.down)
    @rule()
    def box_is_switched_off_and_on(self) -> None:
        self.wire.box.power_cycle(self.wire.now_s)
        self.listen()

    def statuses(self) -> list[str]:
        return [body.status for body in self.store if isinstance(body, StatusChange)]

    @invariant()
    def nothing_is_recorded_twice_or_out_of_order(self) -> None:
        numbers = [(body.press_session, body.press_seq) for body in self.store]
        assert len(set(numbers)) == len(numbers)
        assert self.statuses() == self.expected[: len(self.statuses())]

    @invariant()
    def nothing_is_forgotten_before_it_is_stored(self) -> None:
        kept = self.wire.box.unacknowledged
        if not kept and not self.pending:
            assert self.statuses() == self.expected

    @invariant()
    def only_a_deliberate_hold_cancels(self) -> None:
        cancels = sum(isinstance(body, Emergency) and not body.active for body in self.store)
        holds = sum(CANCEL_AFTER_NS <= round(held * 1e9) < CANCEL_WITHIN_NS for held in self.holds_s)
        assert cancels <= holds

    def teardown(self) -> None:
        self.wire.plugged, self.wire.harm = True, 0
        for _ in range(60):
            self.time_passes(700)
            self.commit(acknowledge=True)
        assert self.wire.box.unacknowledged == 0
        assert self.statuses() == self.expected
        raised = sum(isinstance(body, Emergency) and body.active for body in self.store)
        assert bool(raised) == bool(self.emergencies)
        self.runner.run(self.panel.close())
        self.runner.close()


Presses.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
test_presses: Any = Presses.TestCase
