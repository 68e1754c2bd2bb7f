"""The switch on a line: when its level counts, and what becomes of a chip that goes."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

pytest.importorskip("gpiod")

from gpiod.line import Value

from agent.hal.errors import DeviceLostError, DeviceNotFoundError
from agent.hal.samples import Sample
from firmware_shims.gpio_switch import GpioSwitch, SwitchGpio
from firmware_shims.system_clock import SystemClock


class FakeRequest:
    """The part of `gpiod.LineRequest` that the shim uses: levels one after the other, the last for ever."""

    def __init__(self, levels: str) -> None:
        self.levels = list(levels)
        self.looks = 0
        self.released = False

    def get_value(self, line: int) -> Value:
        assert line == 4
        self.looks += 1
        level = self.levels.pop(0) if len(self.levels) > 1 else self.levels[0]
        if level == "x":
            raise OSError(errno.ENODEV, "No such device")
        return Value.ACTIVE if level == "1" else Value.INACTIVE

    def release(self) -> None:
        self.released = True


class OnFakeRequest(GpioSwitch):
    """The shim with the library's request exchanged."""

    def __init__(self, settings: SwitchGpio, request: FakeRequest | OSError) -> None:
        super().__init__(settings, SystemClock())
        self.fake = request

    def _request_line(self) -> Any:
        if isinstance(self.fake, OSError):
            raise self.fake
        return self.fake


def read(levels: str, times: int = 1, **settings: Any) -> tuple[list[Sample], FakeRequest]:
    request = FakeRequest(levels)

    async def main() -> list[Sample]:
        switch = OnFakeRequest(SwitchGpio(line=4, interval_s=0.05, **settings), request)
        await switch.open()
        try:
            return [sample for _ in range(times) for sample in await switch.read()]
        finally:
            await switch.close()

    return asyncio.run(main()), request


def test_ignition_is_told_by_the_vehicles_own_words_and_told_again() -> None:
    samples, request = read("111", times=2)
    assert [(one.signal, one.value, one.unit) for one in samples] == [
        ("LowVoltageSystemState", "ON", None)
    ] * 2
    assert request.released
    samples, _ = read("000")
    assert samples[0].value == "OFF"


def test_level_that_does_not_hold_for_three_looks_is_none() -> None:
    samples, request = read("1011010001")
    assert samples[0].value == "OFF"
    assert request.looks == 9


def test_switch_of_another_signal_has_its_own_values() -> None:
    samples, _ = read("111", signal="Cabin.Door.Row1.DriverSide.IsOpen", when_on=True, when_off=False)
    assert samples[0].value is True


def test_chip_that_goes_is_lost_and_one_that_is_not_there_is_said() -> None:
    with pytest.raises(DeviceLostError, match="removed"):
        read("11x")

    async def open_it() -> None:
        await OnFakeRequest(SwitchGpio(line=4), OSError(errno.EBUSY, "busy")).open()

    with pytest.raises(DeviceNotFoundError, match="in use"):
        asyncio.run(open_it())


def test_closed_switch_reads_nothing() -> None:
    async def main() -> None:
        switch = OnFakeRequest(SwitchGpio(line=4, interval_s=0.05), FakeRequest("1"))
        with pytest.raises(DeviceLostError):
            await switch.read()
        await switch.close()

    asyncio.run(main())
