"""A temperature probe on a 1-wire bus (DS18B20 and its like), as the kernel's w1_therm driver shows it."""

from __future__ import annotations

import errno
import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from agent.config import DeviceName, DevicePath, SampleDevice, SignalName
from agent.hal.clock import Clock
from agent.hal.errors import DeviceLostError, DeviceNotFoundError
from agent.hal.samples import Sample
from firmware_shims.polled_sensor import PolledSensor

POWER_ON_MDEG = 85_000
"""What a DS18B20 holds before its first conversion: its supply was interrupted, and nothing was measured."""
LOWEST_MDEG, HIGHEST_MDEG = -55_000, 125_000
"""What the probe can measure (DS18B20 data sheet)."""
_GONE = (errno.ENOENT, errno.ENODEV, errno.ENXIO)


class TemperatureW1(SampleDevice):
    """A DS18B20 or the like on the kernel's 1-wire bus."""

    kind: Literal["temperature_w1"] = "temperature_w1"
    name: DeviceName = "temperature"
    signal: SignalName = "Ambulance.PatientCompartment.Temperature"
    """The signal that it measures."""
    path: DevicePath = "/sys/bus/w1/devices/*/temperature"
    """The probe's file; with several probes on the bus, each block names its own."""
    interval_s: float = Field(10, ge=1, le=86_400)
    """From one reading to the next."""

    @model_validator(mode="after")
    def _heard_in_time(self) -> TemperatureW1:
        if self.interval_s >= min(self.silent_after_s, self.stale_after_s):
            raise ValueError("interval_s must be below silent_after_s and stale_after_s, or it is never well")
        return self

    def files(self) -> tuple[str, ...]:
        """The file."""
        return (self.path,)

    def signals(self) -> tuple[SignalName, ...]:
        """One."""
        return (self.signal,)


class W1Probe(PolledSensor):
    """Reads the probe's file."""

    def __init__(self, settings: TemperatureW1, clock: Clock) -> None:
        super().__init__(settings.path, clock, settings.interval_s)
        self._signal = settings.signal

    def take(self) -> Sequence[Sample]:
        """One reading; none while the probe answers with an error, or with what is no measurement."""
        try:
            text = self._file().read_text(encoding="ascii", errors="replace")
        except PermissionError as error:
            raise DeviceNotFoundError(self.name, "not permitted") from error
        except OSError as error:
            if error.errno in _GONE:
                raise DeviceLostError(self.name, "the probe is gone") from error
            return ()  # a checksum that failed on the bus: the next reading may be right
        try:
            mdeg = int(text)
        except ValueError:
            return ()
        if mdeg == POWER_ON_MDEG or not LOWEST_MDEG <= mdeg <= HIGHEST_MDEG:
            return ()
        return (Sample(self._signal, mdeg / 1000, "celsius", self._clock.boottime_ns()),)

    def _file(self) -> Path:
        found = glob.glob(self.name)  # noqa: PTH207  # a pattern from the root, which Path has no glob for
        if not found:
            raise DeviceNotFoundError(self.name, "no such probe")
        if len(found) > 1:
            raise DeviceNotFoundError(self.name, f"{len(found)} probes; name one: {', '.join(sorted(found))}")
        return Path(found[0])
