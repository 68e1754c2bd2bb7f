"""A vehicle is asked slowly, about what its file names, and never when it must not be."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.config import DiagnosticDevice
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.record import CodeStage
from agent.domain.trouble_codes import MOST_CODES, TOLD_AT_ONCE, PolledCodes
from agent.domain.vehicle import Signal
from agent.hal.errors import DeviceLostError
from agent.sources.can.can_decoder import CanDecoder
from agent.sources.can.decoder_compiler import compile_decoder
from agent.sources.can.vehicle_file import load_vehicle_file
from agent.sources.diagnostics.obd_answers import codes_of, hashed_vin, vin_of
from agent.sources.diagnostics.obd_poller import ObdPoller
from hil.sim.manual_clock import ManualClock
from hil.sim.virtual_loop import VirtualLoop

VAN = Path(__file__).parents[4] / "config" / "vehicles" / "obd2_van.toml"
VIN = "1FDXE4FS8HDC12345"
ANSWERS = {
    b"\x01\x0d": b"\x41\x0d\x32",
    b"\x01\x42": b"\x41\x42\x35\x20",
    b"\x03": b"\x43\x02\x01\x71\x03\x00",
    b"\x07": b"\x47\x00",
    b"\x09\x02": b"\x49\x02\x01" + VIN.encode(),
}


class Line:
    """Control units in memory."""

    name = "can1"

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self.answers = answers
        self.asked: list[tuple[float, int, bytes]] = []
        self.is_open = False
        self.fails = False

    async def open(self) -> None:
        self.is_open = True

    async def ask(self, controller: int, request: bytes, timeout_s: float) -> bytes | None:
        if self.fails:
            raise DeviceLostError(self.name, "gone")
        self.asked.append((asyncio.get_running_loop().time(), controller, request))
        answer = self.answers.get(request)
        await asyncio.sleep(0.02 if answer is not None else timeout_s)
        return answer

    async def close(self) -> None:
        self.is_open = False


class Bench:
    def __init__(self, answers: dict[bytes, bytes], **settings: object) -> None:
        self.line = Line(answers)
        self.health = HealthBoard()
        self.may = True
        self.signals: list[Signal] = []
        self.codes: list[tuple[int, bool, list[str]]] = []
        self.vins: list[str] = []
        self.settings = DiagnosticDevice.model_validate({"kind": "obd", "vehicle": VAN, **settings})

    def run(self, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> None:
        async def decoder() -> CanDecoder:
            return compile_decoder(load_vehicle_file(VAN), VAN)

        async def main() -> None:
            poller = ObdPoller(
                self.line,
                self.settings,
                decoder,
                may_ask=lambda: self.may,
                on_codes=lambda controller, pending, codes, _: self.codes.append(
                    (controller, pending, codes)
                ),
                on_vin=lambda vin, _: self.vins.append(vin),
                clock=ManualClock.of_loop("0" * 32, 0),
                health=self.health,
            )
            task = asyncio.create_task(poller.run(self.signals.extend, lambda: None))
            await asyncio.sleep(seconds / 2)
            meanwhile()
            await asyncio.sleep(seconds / 2)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(main())


def test_what_the_vehicle_file_names_becomes_signals_codes_and_a_number() -> None:
    bench = Bench(ANSWERS)
    bench.run(120)
    told = {signal.name: signal.value for signal in bench.signals}
    assert told["Speed"] == 50
    assert told["LowVoltageBattery.CurrentVoltage"] == 13.6
    assert (0, False, ["P0171", "P0300"]) in bench.codes
    assert (0, True, []) in bench.codes
    assert set(bench.vins) == {VIN}
    assert bench.health.reasons() == ()
    assert not bench.line.is_open


def test_the_rate_is_bounded_and_what_is_not_answered_is_asked_ever_less() -> None:
    bench = Bench(ANSWERS, requests_per_s=2, signals_every_s=0.5)
    bench.run(600)
    times = [at_s for at_s, _, _ in bench.line.asked]
    assert min(after - before for before, after in itertools.pairwise(times)) > 0.49
    unknown = sum(request == b"\x01\x5c" for _, _, request in bench.line.asked)
    known = sum(request == b"\x01\x0d" for _, _, request in bench.line.asked)
    assert 3 <= unknown <= 12
    assert known > 10 * unknown


def test_nothing_is_sent_while_it_may_not_be() -> None:
    bench = Bench(ANSWERS)
    bench.may = False
    bench.run(120)
    assert bench.line.asked == []
    bench = Bench(ANSWERS)
    bench.run(120, lambda: setattr(bench, "may", False))
    assert bench.line.asked
    assert max(at_s for at_s, _, _ in bench.line.asked) <= 61


def test_a_vehicle_that_does_not_answer_is_silent_and_hardly_asked() -> None:
    bench = Bench({})
    seen: list[tuple[HealthReason, ...]] = []
    bench.run(240, lambda: seen.append(bench.health.reasons()))
    assert seen == [(HealthReason.CAN_SILENT,)]
    assert len(bench.line.asked) < 40


def test_a_line_that_is_lost_is_named() -> None:
    bench = Bench(ANSWERS)
    with pytest.raises(DeviceLostError):
        bench.run(60, lambda: setattr(bench.line, "fails", True))
    assert bench.health.reasons() == (HealthReason.CAN_LOST,)


@pytest.mark.parametrize(
    "answer",
    [b"", b"\x43", b"\x43\x02\x01\x71", b"\x47\x00", b"\x43\xff" + bytes(510), b"\x7f\x03\x12"],
)
def test_what_is_no_list_of_codes_gives_none(answer: bytes) -> None:
    assert codes_of(answer, 3) is None


def test_codes_are_read_as_they_are_written() -> None:
    assert codes_of(bytes.fromhex("4304 0300 4123 9234 C101".replace(" ", "")), 3) == [
        "B1234", "C0123", "P0300", "U0101",
    ]  # fmt: skip
    assert codes_of(b"\x43\x01\x00\x00", 3) == []


def test_a_number_is_one_only_when_it_can_be() -> None:
    assert vin_of(b"\x49\x02\x01" + VIN.encode()) == VIN
    assert vin_of(b"\x49\x02\x01" + b"\x00" * 17) is None
    assert vin_of(b"\x49\x02\x01" + b"IOQ" * 5 + b"12") is None
    assert hashed_vin(VIN, "boston") == hashed_vin(VIN, "boston") != hashed_vin(VIN, "cambridge")
    assert VIN not in hashed_vin(VIN, "boston")


def test_codes_of_an_answer_are_told_when_they_come_and_go() -> None:
    codes = PolledCodes()
    assert [(one.code, one.active) for one in codes.take(0, CodeStage.CONFIRMED, ["P0300"], 0)] == [
        ("P0300", True)
    ]
    assert codes.take(0, CodeStage.CONFIRMED, ["P0300"], 1) == []
    assert [one.stage for one in codes.take(0, CodeStage.PENDING, ["P0300"], 2)] == ["pending"]
    assert [(one.code, one.active) for one in codes.take(0, CodeStage.CONFIRMED, [], 3)] == [("P0300", False)]


def test_a_control_unit_that_invents_codes_fills_no_store() -> None:
    codes = PolledCodes()
    told = sum(
        len(codes.take(0, CodeStage.CONFIRMED, [f"P{turn:02X}{one:02X}" for one in range(100)], turn))
        for turn in range(100)
    )
    assert told <= 2 * TOLD_AT_ONCE
    assert len(codes.snapshot()) <= MOST_CODES
