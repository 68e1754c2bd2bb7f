"""Canonical signal names (COVESA VSS 6.0 paths below `Vehicle.`), what each holds, and unit conversion."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class ValueType(Enum):
    """What a signal's value is."""

    NUMBER = "number"
    BOOLEAN = "boolean"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What VSS says of a signal.

    Attributes:
        type: number, boolean or text.
        unit: VSS unit token; None for a signal without unit.
        allowed: the words of an enumeration; empty when any text is allowed.
    """

    type: ValueType
    unit: str | None = None
    allowed: tuple[str, ...] = ()


_BOOLEAN = Meaning(ValueType.BOOLEAN)


def _number(unit: str | None) -> Meaning:
    return Meaning(ValueType.NUMBER, unit)


SIGNALS: dict[str, Meaning] = {
    "Speed": _number("km/h"),
    "TraveledDistance": _number("m"),
    "LowVoltageBattery.CurrentVoltage": _number("V"),
    "LowVoltageSystemState": Meaning(
        ValueType.TEXT, allowed=("UNDEFINED", "LOCK", "OFF", "ACC", "ON", "START")
    ),
    "Powertrain.FuelSystem.RelativeLevel": _number("percent"),
    "Powertrain.CombustionEngine.Speed": _number("rpm"),
    "Powertrain.CombustionEngine.IsRunning": _BOOLEAN,
    "Powertrain.CombustionEngine.EngineHours": _number("h"),
    "Powertrain.CombustionEngine.IdleHours": _number("h"),
    "Powertrain.CombustionEngine.EngineCoolant.Temperature": _number("celsius"),
    "Powertrain.CombustionEngine.EngineOil.Temperature": _number("celsius"),
    "Powertrain.CombustionEngine.EOP": _number("kPa"),
    "Powertrain.CombustionEngine.DieselExhaustFluid.Level": _number("percent"),
    # 0 neutral, 1, 2... forward, -1, -2... reverse, 126 park, 127 drive
    "Powertrain.Transmission.SelectedGear": _number(None),
    "Exterior.AirTemperature": _number("celsius"),
    "Chassis.ParkingBrake.IsEngaged": _BOOLEAN,
    "Chassis.Brake.PedalPosition": _number("percent"),
    "Chassis.Axle.Row1.Wheel.Left.Speed": _number("km/h"),
    "Chassis.Axle.Row1.Wheel.Right.Speed": _number("km/h"),
    "Chassis.Axle.Row2.Wheel.Left.Speed": _number("km/h"),
    "Chassis.Axle.Row2.Wheel.Right.Speed": _number("km/h"),
    "Cabin.Door.Row1.DriverSide.IsOpen": _BOOLEAN,
    "Cabin.Door.Row1.PassengerSide.IsOpen": _BOOLEAN,
    "Cabin.Door.Row2.DriverSide.IsOpen": _BOOLEAN,
    "Cabin.Door.Row2.PassengerSide.IsOpen": _BOOLEAN,
    "Cabin.Seat.Row1.DriverSide.IsBelted": _BOOLEAN,
    "Body.Trunk.Rear.IsOpen": _BOOLEAN,
    "Body.Lights.Hazard.IsSignaling": _BOOLEAN,
    "VehicleIdentification.VIN": Meaning(ValueType.TEXT),
    # The overlay: what an ambulance has and VSS has no name for.
    "Ambulance.EmergencyLights.IsOn": _BOOLEAN,
    "Ambulance.Siren.IsOn": _BOOLEAN,
    "Ambulance.ShorePower.IsConnected": _BOOLEAN,
    "Ambulance.HighIdle.IsActive": _BOOLEAN,
    "Ambulance.PatientCompartment.Temperature": _number("celsius"),
    "Ambulance.PatientCompartment.Door.IsOpen": _BOOLEAN,
    "Ambulance.Oxygen.Pressure": _number("kPa"),
}
"""Names the agent knows the meaning of. A vehicle file may use other VSS paths; it then gives the unit."""


@dataclass(frozen=True, slots=True)
class _Unit:
    """A unit: value in the base unit of its dimension = value * factor + offset."""

    dimension: str
    factor: float
    offset: float = 0


_UNITS: dict[str, _Unit] = {
    "km/h": _Unit("speed", 1),
    "mph": _Unit("speed", 1.609344),
    "m/s": _Unit("speed", 3.6),
    "m": _Unit("length", 1),
    "km": _Unit("length", 1000),
    "mi": _Unit("length", 1609.344),
    "percent": _Unit("ratio", 1),
    "V": _Unit("voltage", 1),
    "mV": _Unit("voltage", 0.001),
    "rpm": _Unit("rotation", 1),
    "celsius": _Unit("temperature", 1),
    "fahrenheit": _Unit("temperature", 1 / 1.8, -32 / 1.8),
    "kelvin": _Unit("temperature", 1, -273.15),
    "kPa": _Unit("pressure", 1),
    "hPa": _Unit("pressure", 0.1),
    "bar": _Unit("pressure", 100),
    "psi": _Unit("pressure", 6.894757293168),
    "s": _Unit("time", 1),
    "min": _Unit("time", 60),
    "h": _Unit("time", 3600),
    "l": _Unit("volume", 1),
    "l/h": _Unit("flow", 1),
    "degrees": _Unit("angle", 1),
}

_SPELLINGS: dict[str, str] = {
    "kmh": "km/h", "kph": "km/h", "km/hr": "km/h", "kmph": "km/h",
    "mi/h": "mph", "mile/h": "mph", "meters/s": "m/s",
    "meter": "m", "meters": "m", "mile": "mi", "miles": "mi",
    "%": "percent", "pct": "percent", "v": "V", "volt": "V", "volts": "V", "mv": "mV",
    "1/min": "rpm", "r/min": "rpm", "u/min": "rpm", "min-1": "rpm",
    "degc": "celsius", "deg c": "celsius", "deg_c": "celsius", "°c": "celsius", "c": "celsius",
    "degf": "fahrenheit", "deg f": "fahrenheit", "deg_f": "fahrenheit", "°f": "fahrenheit", "f": "fahrenheit",
    "k": "kelvin", "kpa": "kPa", "hpa": "hPa", "mbar": "hPa", "sec": "s", "seconds": "s", "minutes": "min",
    "hr": "h", "hours": "h", "liter": "l", "litre": "l", "deg": "degrees", "°": "degrees",
}  # fmt: skip
"""How vehicle makers write them, in lower case."""


_NO_UNIT = frozenset((
    "", "-", "--", "1", "ascii", "binary", "bit", "bitmap", "bitmask", "bits", "bool", "boolean", "cnt",
    "code", "count", "counts", "dimensionless", "enum", "enumeration", "flag", "flags", "hex", "id",
    "index", "n/a", "na", "no unit", "none", "nounit", "number", "numeric", "on/off", "raw", "sed", "state",
    "states", "status", "text", "true/false", "unit less", "unitless", "yes/no",
))  # fmt: skip
"""What stands for "no unit" in makers' files, in lower case; SED is Ford's "state encoded"."""


def is_no_unit(written: str) -> bool:
    """True when what a DBC has in the unit's place is none."""
    return written.strip().lower() in _NO_UNIT


def unit_token(written: str) -> str | None:
    """The VSS token of a unit as a DBC writes it; None when it is not known."""
    written = written.strip()
    if written in _UNITS:
        return written
    lower = written.lower()
    return _SPELLINGS.get(lower, lower if lower in _UNITS else None)


def conversion(written: str, wanted: str) -> tuple[float, float] | None:
    """(scale, offset) such that value * scale + offset turns a DBC's unit into the VSS unit `wanted`.

    None when either unit is not known or they do not measure the same thing.
    """
    token = unit_token(written)
    if token is None:
        return (1, 0) if written.strip() == wanted else None
    if token == wanted:
        return (1, 0)
    if wanted not in _UNITS or _UNITS[token].dimension != _UNITS[wanted].dimension:
        return None
    have, want = _UNITS[token], _UNITS[wanted]
    return have.factor / want.factor, (have.offset - want.offset) / want.factor
