"""Asks the control units of a vehicle by OBD-II, slowly, and never while the crew responds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from agent.config import DiagnosticDevice
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.vehicle import Signal
from agent.hal.can import CanFrame
from agent.hal.clock import Clock
from agent.hal.diagnostics import DiagnosticLine
from agent.hal.errors import HardwareError
from agent.sources.can.can_decoder import CanDecoder
from agent.sources.can.signal_changes import SignalChanges
from agent.sources.diagnostics import obd_answers as obd

TICK_S = 0.5
ANSWER_S = 1.0
"""A control unit answers within 50 ms; a gateway may take its time."""
LONGEST_REST_S = 300.0
"""What is not answered is asked less and less, down to this."""
SILENT_AFTER = 5
"""So many requests in a row without any answer, and the vehicle counts as silent."""
PROBE_EVERY_S = 10.0
"""How often a silent vehicle is asked at all."""
VIN_EVERY_S = 3600.0
_SINGLE_FRAME_BYTES = 7

OnCodes = Callable[[int, bool, list[str], int], None]
"""Control unit from 0, whether its codes are pending only, all of its codes, CLOCK_BOOTTIME."""


@dataclass(slots=True)
class _Question:
    controller: int
    request: bytes
    interval_s: float
    due_s: float = 0.0
    rest_s: float = 0.0
    """Added to the interval while it is not answered."""


class ObdPoller:
    """Asks in turn what is due. Event loop only.

    Nothing is sent while `may_ask` says no: while the crew responds, and while the ignition is not known to
    be on, because a request wakes a bus that sleeps.

    Args:
        line: where to ask.
        settings: what, and how often.
        make_decoder: gives what the vehicle file makes of the answers; awaited once.
        may_ask: whether it may be asked now.
        on_codes: takes all codes of a control unit.
        on_vin: takes the VIN; None not to ask for it.
        clock: stamps the answers.
        health: is told CAN_LOST and CAN_SILENT.
    """

    def __init__(
        self,
        line: DiagnosticLine,
        settings: DiagnosticDevice,
        make_decoder: Callable[[], Awaitable[CanDecoder]],
        *,
        may_ask: Callable[[], bool],
        on_codes: OnCodes,
        on_vin: Callable[[str, int], None] | None,
        clock: Clock,
        health: HealthBoard,
    ) -> None:
        self._line = line
        self._settings = settings
        self._make_decoder = make_decoder
        self._decoder: CanDecoder | None = None
        self._may_ask = may_ask
        self._on_codes = on_codes
        self._on_vin = on_vin
        self._clock = clock
        self._health = health
        self._unanswered = 0
        self.asked = self.answered = self.refused = 0

    def report(self) -> dict[str, Any]:
        """For `mdt status`."""
        return {"asked": self.asked, "answered": self.answered, "refused": self.refused}

    async def run(
        self, on_signals: Callable[[Sequence[Signal]], None], progress: Callable[[], None]
    ) -> NoReturn:
        """Ask until cancelled or the line fails. Raises HardwareError, and ConfigError for a vehicle file."""
        decoder = self._decoder = self._decoder or await self._made(progress)
        changes = SignalChanges(decoder)
        questions = self._questions(decoder)
        loop = asyncio.get_running_loop()
        name = self._line.name
        try:
            await self._line.open()
            self._health.clear(HealthReason.CAN_LOST, owner=name)
            while True:
                progress()
                question = min(questions, key=lambda one: one.due_s)
                now_s = loop.time()
                if not self._may_ask() or question.due_s > now_s:
                    await asyncio.sleep(min(TICK_S, max(question.due_s - now_s, 0.05)))
                    continue
                await self._one(question, changes, on_signals)
                await self._rest(loop.time() - now_s, progress)
        except HardwareError as error:
            self._health.raise_(HealthReason.CAN_LOST, str(error), owner=name)
            raise
        finally:
            self._health.clear(HealthReason.CAN_SILENT, owner=name)
            await self._line.close()

    async def _made(self, progress: Callable[[], None]) -> CanDecoder:
        making = asyncio.ensure_future(self._make_decoder())
        try:
            while not (await asyncio.wait({making}, timeout=TICK_S))[0]:
                progress()
            return making.result()
        finally:
            making.cancel()

    async def _rest(self, taken_s: float, progress: Callable[[], None]) -> None:
        """The pause between two requests, by the bound of the configuration."""
        pause_s = 1 / self._settings.requests_per_s - taken_s
        if self._unanswered >= SILENT_AFTER:
            pause_s = PROBE_EVERY_S
        while pause_s > 0:
            await asyncio.sleep(min(pause_s, TICK_S))
            pause_s -= TICK_S
            progress()

    def _questions(self, decoder: CanDecoder) -> list[_Question]:
        settings, found = self._settings, []
        for message in decoder.messages:
            controller = message.can_id - 8
            if message.extended or not obd.LISTENS_FROM <= controller < obd.ANSWERS_FROM:
                continue
            pids = {
                next(iter(condition.ids)) >> 8
                for signal in message.signals
                for condition in signal.conditions
                if condition.selector.mask == 0xFFFF  # noqa: PLR2004  # mode and PID
            }
            found += [
                _Question(controller, bytes([obd.CURRENT, pid]), settings.signals_every_s)
                for pid in sorted(pids)
            ]
        for controller in settings.controllers:
            found += [
                _Question(controller, bytes([mode]), settings.codes_every_s)
                for mode in (obd.CONFIRMED, obd.PENDING)
            ]
        if self._on_vin is not None:
            request = bytes([obd.VEHICLE, obd.VIN_ITEM])
            found.append(_Question(settings.controllers[0], request, VIN_EVERY_S))
        return found

    async def _one(
        self, question: _Question, changes: SignalChanges, on_signals: Callable[[Sequence[Signal]], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        self.asked += 1
        answer = await self._line.ask(question.controller, question.request, ANSWER_S)
        now_ns = self._clock.boottime_ns()
        was_taken = answer is not None and self._take(question, answer, now_ns, changes, on_signals)
        if answer is None:
            self._unanswered += 1
            if self._unanswered == SILENT_AFTER:
                detail = f"{self._line.name}: no control unit answers"
                self._health.raise_(HealthReason.CAN_SILENT, detail, owner=self._line.name)
        else:
            self._unanswered = 0
            self._health.clear(HealthReason.CAN_SILENT, owner=self._line.name)
        if was_taken:
            self.answered += 1
            question.rest_s = 0.0
        else:
            self.refused += answer is not None
            question.rest_s = min(LONGEST_REST_S, max(1.0, 2 * question.rest_s))
        question.due_s = loop.time() + question.interval_s + question.rest_s

    def _take(
        self,
        question: _Question,
        answer: bytes,
        now_ns: int,
        changes: SignalChanges,
        on_signals: Callable[[Sequence[Signal]], None],
    ) -> bool:
        """Whether it is an answer to what was asked; it is handed on."""
        mode = question.request[0]
        if answer[:1] != bytes([mode + obd.ANSWER_TO]):
            return False
        if mode == obd.CURRENT:
            if answer[1:2] != question.request[1:] or len(answer) > _SINGLE_FRAME_BYTES:
                return False
            # As it stood on the bus: the vehicle file says what it means.
            data = (bytes([len(answer)]) + answer).ljust(8, b"\0")
            signals = changes.take([CanFrame(question.controller + 8, False, data, now_ns)])
            if signals:
                on_signals(signals)
            return True
        if mode == obd.VEHICLE:
            vin = obd.vin_of(answer)
            if vin is not None and self._on_vin is not None:
                self._on_vin(vin, now_ns)
            return vin is not None
        codes = obd.codes_of(answer, mode)
        if codes is None:
            return False
        self._on_codes(question.controller - obd.LISTENS_FROM, mode == obd.PENDING, codes, now_ns)
        return True
