"""Analogue inputs and accelerometers, as the kernel's industrial I/O (IIO) drivers show them in files."""

from __future__ import annotations

import errno
import glob
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from agent.config import DeviceName, DevicePath, SampleDevice, SignalName
from agent.hal.clock import Clock
from agent.hal.errors import DeviceLostError, DeviceNotFoundError
from agent.hal.samples import Sample
from firmware_shims.polled_sensor import PolledSensor

_GONE = (errno.ENOENT, errno.ENODEV, errno.ENXIO)
Axis = Literal["x", "-x", "y", "-y", "z", "-z"]


class AnalogIio(SampleDevice):
    """An analogue input: a pressure, a level, a voltage behind a divider. Value = raw * scale + offset."""

    kind: Literal["analog_iio"] = "analog_iio"
    path: DevicePath = "/sys/bus/iio/devices/iio:device0/in_voltage0_raw"
    """The input's file; with a star where only one fits."""
    signal: SignalName
    """The signal that it measures."""
    unit: str | None = Field(None, min_length=1, max_length=24)
    """Unit of the value, such as "kPa"; none for a signal without."""
    scale: float = Field(ge=-1e9, le=1e9)
    """Of one step of the converter, in the unit."""
    offset: float = Field(0, ge=-1e9, le=1e9)
    """Value at 0."""
    lowest: float | None = Field(None, ge=-1e9, le=1e9)
    """Below it the wire is broken or shorted: there is no value."""
    highest: float | None = Field(None, ge=-1e9, le=1e9)
    """Above it likewise."""
    interval_s: float = Field(2, ge=0.1, le=3600)
    """From one reading to the next."""

    @model_validator(mode="after")
    def _sensible(self) -> AnalogIio:
        if self.scale == 0:
            raise ValueError("scale = 0: every value would be the same")
        if self.lowest is not None and self.highest is not None and self.lowest >= self.highest:
            raise ValueError("lowest must be below highest")
        if self.interval_s >= min(self.silent_after_s, self.stale_after_s):
            raise ValueError("interval_s must be below silent_after_s and stale_after_s, or it is never well")
        return self

    def files(self) -> tuple[str, ...]:
        """The file."""
        return (self.path,)

    def signals(self) -> tuple[SignalName, ...]:
        """One."""
        return (self.signal,)


class AccelerometerIio(SampleDevice):
    """An accelerometer that is fixed to the vehicle: it tells of impacts, braking and cornering."""

    kind: Literal["accelerometer_iio"] = "accelerometer_iio"
    name: DeviceName = "accelerometer"
    directory: DevicePath = "/sys/bus/iio/devices/iio:device0"
    """The folder with in_accel_x_raw and its like; with a star where only one fits."""
    ahead: Axis = "x"
    """Which of its axes points ahead."""
    left: Axis = "y"
    """Which points to the left."""
    interval_s: float = Field(0.04, ge=0.005, le=1)
    """From one reading to the next; an impact lasts a tenth of a second."""

    @model_validator(mode="after")
    def _two_axes(self) -> AccelerometerIio:
        if self.ahead.strip("-") == self.left.strip("-"):
            raise ValueError("ahead and left are the same axis")
        return self

    def files(self) -> tuple[str, ...]:
        """The folder."""
        return (self.directory,)

    def signals(self) -> tuple[SignalName, ...]:
        """Along and across."""
        return ("Acceleration.Longitudinal", "Acceleration.Lateral")


class AnalogInput(PolledSensor):
    """Reads the input's file."""

    def __init__(self, settings: AnalogIio, clock: Clock) -> None:
        super().__init__(settings.path, clock, settings.interval_s)
        self._settings = settings

    def take(self) -> Sequence[Sample]:
        """One reading; no value where the wire is not well."""
        raw = _number(_only(self.name), self.name)
        if raw is None:
            return ()
        settings = self._settings
        value: float | None = raw * settings.scale + settings.offset
        if value is not None and (
            not math.isfinite(value)
            or (settings.lowest is not None and value < settings.lowest)
            or (settings.highest is not None and value > settings.highest)
        ):
            value = None
        return (Sample(settings.signal, value, settings.unit, self._clock.boottime_ns()),)


class Accelerometer(PolledSensor):
    """Reads the files of two axes, and the scale once."""

    def __init__(self, settings: AccelerometerIio, clock: Clock) -> None:
        super().__init__(settings.directory, clock, settings.interval_s)
        self._settings = settings
        self._scale: float | None = None

    def take(self) -> Sequence[Sample]:
        """One reading of both axes, in m/s2; a whole reading or none."""
        folder = _only(self.name)
        if self._scale is None:
            self._scale = _number(folder / "in_accel_scale", self.name)
        scale, settings = self._scale, self._settings
        axes = [
            (signal, axis, _number(folder / f"in_accel_{axis.strip('-')}_raw", self.name))
            for signal, axis in zip(settings.signals(), (settings.ahead, settings.left), strict=True)
        ]
        now_ns = self._clock.boottime_ns()
        if scale is None:
            return ()
        return tuple(
            Sample(signal, (-raw if axis.startswith("-") else raw) * scale, "m/s^2", now_ns)
            for signal, axis, raw in axes
            if raw is not None
        )


def _only(pattern: str) -> Path:
    found = glob.glob(pattern)  # noqa: PTH207  # a pattern from the root, which Path has no glob for
    if not found:
        raise DeviceNotFoundError(pattern, "no such input")
    if len(found) > 1:
        raise DeviceNotFoundError(pattern, f"{len(found)} fit; name one: {', '.join(sorted(found))}")
    return Path(found[0])


def _number(file: Path, name: str) -> float | None:
    """What stands in a file of the kernel's; None when it is no number this time. Raises HardwareError."""
    try:
        value = float(file.read_text(encoding="ascii", errors="replace"))
    except PermissionError as error:
        raise DeviceNotFoundError(name, "not permitted") from error
    except OSError as error:
        if error.errno in _GONE:
            raise DeviceLostError(name, "the input is gone") from error
        return None
    except ValueError:
        return None
    return value if math.isfinite(value) else None
