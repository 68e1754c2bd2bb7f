"""A switch on a line of a GPIO chip, such as the ignition's: its level, looked at often, is a signal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from agent.config import DeviceName, DevicePath, SampleDevice, SignalName
from agent.hal.clock import Clock
from agent.hal.errors import DeviceLostError, DeviceNotFoundError
from agent.hal.samples import Sample
from firmware_shims.gpio_buttons import CONSUMER, Offset, labelled, plain

if TYPE_CHECKING:
    import gpiod

SAME_LOOKS = 3
"""So many looks in a row must agree before a level is told: a relay bounces, and an engine that is cranked
pulls the supply down."""
SwitchValue = bool | Annotated[str, StringConstraints(min_length=1, max_length=32)]


class SwitchGpio(SampleDevice):
    """A switch on a line of a GPIO chip: by default the ignition's, through an optocoupler."""

    kind: Literal["switch_gpio"] = "switch_gpio"
    name: DeviceName = "ignition-sense"
    chip: DevicePath = "/dev/gpiochip0"
    """The chip's device."""
    chip_label: str | None = Field(None, min_length=1, max_length=32)
    """The chip's label, as `gpiodetect` shows it, also with a star; `chip` is then unused."""
    line: Offset
    """Which line."""
    active_low: bool = False
    """Whether the switch pulls its line down when it is on."""
    bias: Literal["pull_up", "pull_down", "disabled", "as_is"] = "as_is"
    """The chip's own resistor on the line."""
    signal: SignalName = "LowVoltageSystemState"
    """The signal that it tells."""
    when_on: SwitchValue = "ON"
    """Its value while the switch is on."""
    when_off: SwitchValue = "OFF"
    """Its value while it is off."""
    interval_s: float = Field(0.2, ge=0.05, le=3600)
    """From one look to the next; a level counts when three agree."""

    @model_validator(mode="after")
    def _heard_in_time(self) -> SwitchGpio:
        if SAME_LOOKS * self.interval_s >= min(self.silent_after_s, self.stale_after_s):
            raise ValueError(
                "three times interval_s must be below silent_after_s and stale_after_s, or it is never well"
            )
        if self.when_on == self.when_off:
            raise ValueError("when_on and when_off are the same: it would tell nothing")
        return self

    def files(self) -> tuple[str, ...]:
        """The chip, where it is known before anybody looked for its label."""
        return (self.chip,) if self.chip_label is None else ()

    def takes(self) -> tuple[str, ...]:
        """The line."""
        return (f"{self.chip_label or self.chip} line {self.line}",)

    def signals(self) -> tuple[SignalName, ...]:
        """One."""
        return (self.signal,)


class GpioSwitch:
    """A `SampleFeed`. The line is asked for its level: an edge that was missed would be a lie that stays."""

    def __init__(self, settings: SwitchGpio, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._request: gpiod.LineRequest | None = None
        self._looks: list[bool] = []

    @property
    def name(self) -> str:
        """The chip as configured, and the line."""
        return f"{self._settings.chip_label or self._settings.chip} line {self._settings.line}"

    async def open(self) -> None:
        """Request the line. Raises DeviceNotFoundError: no chip, no permission, or the line is in use."""
        if self._request is not None:
            return
        try:
            self._request = self._request_line()
        except (OSError, ValueError) as error:
            raise DeviceNotFoundError(self.name, plain(error)) from error
        self._looks.clear()

    async def read(self) -> Sequence[Sample]:
        """Wait until so many looks agree. Safe to cancel. Raises DeviceLostError when the chip is gone."""
        while True:
            await asyncio.sleep(self._settings.interval_s)
            if self._request is None:
                raise DeviceLostError(self.name, "not open")
            try:
                on = self._level(self._request)
            except OSError as error:
                raise DeviceLostError(self.name, plain(error)) from error
            self._looks = [*self._looks[-(SAME_LOOKS - 1) :], on]
            if len(self._looks) == SAME_LOOKS and len(set(self._looks)) == 1:
                value = self._settings.when_on if on else self._settings.when_off
                return (Sample(self._settings.signal, value, None, self._clock.boottime_ns()),)

    async def close(self) -> None:
        """Release the line. Idempotent, never raises."""
        request, self._request = self._request, None
        if request is not None:
            request.release()

    def _request_line(self) -> gpiod.LineRequest:
        import gpiod  # lazily: only a configuration with such a switch pays for it
        from gpiod.line import Bias, Direction

        given = self._settings
        line = gpiod.LineSettings(
            direction=Direction.INPUT, bias=Bias[given.bias.upper()], active_low=given.active_low
        )
        chip = given.chip if given.chip_label is None else labelled(given.chip_label)
        return gpiod.request_lines(chip, consumer=CONSUMER, config={given.line: line})

    def _level(self, request: gpiod.LineRequest) -> bool:
        from gpiod.line import Value

        return request.get_value(self._settings.line) is Value.ACTIVE
