"""Canonical signal names (COVESA VSS 6.0 paths below `Vehicle.`), what each holds, and unit conversion."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import Enum
from math import pi

_LONG_ENOUGH, _SIMILAR = 4, 0.8


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


def _text(*allowed: str) -> Meaning:
    return Meaning(ValueType.TEXT, allowed=allowed)


def _each(pattern: str, meaning: Meaning) -> dict[str, Meaning]:
    """The names of a pattern in which "{a|b}" stands for each of a and b."""
    head, brace, rest = pattern.partition("{")
    if not brace:
        return {pattern: meaning}
    words, _, tail = rest.partition("}")
    found: dict[str, Meaning] = {}
    for word in words.split("|"):
        found |= _each(f"{head}{word}{tail}", meaning)
    return found


SIDES = "{DriverSide|PassengerSide}"
COMPARTMENT_SEATS = "{Attendant|Bench1|Bench2|Bench3|Captain|Cpr}"
"""Seats of the patient compartment: at the patient's head, along the side, and beside the chest."""

SIGNALS: dict[str, Meaning] = {
    "Speed": _number("km/h"),
    "TraveledDistance": _number("m"),
    "Acceleration.Longitudinal": _number("m/s^2"),
    "Acceleration.Lateral": _number("m/s^2"),
    "Acceleration.Vertical": _number("m/s^2"),
    "AngularVelocity.Yaw": _number("degrees/s"),
    "LowVoltageBattery.CurrentVoltage": _number("V"),
    "LowVoltageBattery.CurrentCurrent": _number("A"),
    "LowVoltageSystemState": _text("UNDEFINED", "LOCK", "OFF", "ACC", "ON", "START"),
    "Powertrain.Range": _number("m"),
    "Powertrain.FuelSystem.RelativeLevel": _number("percent"),
    "Powertrain.FuelSystem.AbsoluteLevel": _number("l"),
    "Powertrain.FuelSystem.InstantConsumption": _number("l/100km"),
    "Powertrain.CombustionEngine.Speed": _number("rpm"),
    "Powertrain.CombustionEngine.IsRunning": _BOOLEAN,
    "Powertrain.CombustionEngine.EngineHours": _number("h"),
    "Powertrain.CombustionEngine.IdleHours": _number("h"),
    "Powertrain.CombustionEngine.EngineCoolant.Temperature": _number("celsius"),
    "Powertrain.CombustionEngine.EngineOil.Temperature": _number("celsius"),
    "Powertrain.CombustionEngine.EOT": _number("celsius"),
    "Powertrain.CombustionEngine.EOP": _number("kPa"),
    "Powertrain.CombustionEngine.ECT": _number("celsius"),
    "Powertrain.CombustionEngine.MAP": _number("kPa"),
    "Powertrain.CombustionEngine.TPS": _number("percent"),
    "Powertrain.CombustionEngine.Torque": _number("Nm"),
    "Powertrain.CombustionEngine.DieselExhaustFluid.Level": _number("percent"),
    "Powertrain.CombustionEngine.DieselExhaustFluid.IsLevelLow": _BOOLEAN,
    # 0 neutral, 1, 2... forward, -1, -2... reverse, 126 park, 127 drive
    "Powertrain.Transmission.SelectedGear": _number(None),
    "Powertrain.Transmission.CurrentGear": _number(None),
    "Powertrain.Transmission.Temperature": _number("celsius"),
    "Exterior.AirTemperature": _number("celsius"),
    "Cabin.HVAC.AmbientAirTemperature": _number("celsius"),
    "Chassis.ParkingBrake.IsEngaged": _BOOLEAN,
    "Chassis.Brake.PedalPosition": _number("percent"),
    "Chassis.Brake.IsDriverEmergencyBrakingDetected": _BOOLEAN,
    "Chassis.Accelerator.PedalPosition": _number("percent"),
    "Chassis.SteeringWheel.Angle": _number("degrees"),
    **_each("Chassis.Axle.{Row1|Row2}.Wheel.{Left|Right}.Speed", _number("km/h")),
    **_each("Chassis.Axle.{Row1|Row2}.Wheel.{Left|Right}.Tire.Pressure", _number("kPa")),
    "ADAS.ABS.IsEngaged": _BOOLEAN,
    "ADAS.ESC.IsEngaged": _BOOLEAN,
    "ADAS.TCS.IsEngaged": _BOOLEAN,
    "ADAS.CruiseControl.IsActive": _BOOLEAN,
    **_each(f"Cabin.Door.{{Row1|Row2}}.{SIDES}.{{IsOpen|IsLocked}}", _BOOLEAN),
    **_each(f"Cabin.Seat.{{Row1|Row2}}.{SIDES}.{{IsBelted|IsOccupied|Airbag.IsDeployed}}", _BOOLEAN),
    "Body.Trunk.Rear.IsOpen": _BOOLEAN,
    "Body.Trunk.Rear.IsLocked": _BOOLEAN,
    "Body.Hood.IsOpen": _BOOLEAN,
    "Body.Horn.IsActive": _BOOLEAN,
    "Body.Lights.Hazard.IsSignaling": _BOOLEAN,
    "Body.Lights.Brake.IsActive": _text("INACTIVE", "ACTIVE", "ADAPTIVE"),
    **_each("Body.Lights.Beam.{Low|High}.IsOn", _BOOLEAN),
    "Body.Lights.Backup.IsOn": _BOOLEAN,
    **_each("Body.Lights.DirectionIndicator.{Left|Right}.IsSignaling", _BOOLEAN),
    "VehicleIdentification.VIN": _text(),
    # The overlay: what an ambulance has and VSS has no name for.
    "Ambulance.EmergencyLights.IsOn": _BOOLEAN,
    "Ambulance.EmergencyLights.Mode": _text("OFF", "CALLING", "BLOCKING"),
    "Ambulance.SceneLights.IsOn": _BOOLEAN,
    "Ambulance.Siren.IsOn": _BOOLEAN,
    "Ambulance.Siren.Mode": _text("OFF", "MANUAL", "WAIL", "YELP", "PHASER", "HORN"),
    "Ambulance.Chassis.MalfunctionLamp.IsOn": _BOOLEAN,
    "Ambulance.Crash.IsDetected": _BOOLEAN,
    "Ambulance.BrakePedal.IsPressed": _BOOLEAN,
    "Ambulance.Spotter.IsPressed": _BOOLEAN,
    "Ambulance.Key.IsPresent": _BOOLEAN,
    "Ambulance.Chassis.FuelUsed": _number("l"),
    "Ambulance.ShorePower.IsConnected": _BOOLEAN,
    "Ambulance.ShorePower.Voltage": _number("V"),
    "Ambulance.AuxiliaryBattery.Voltage": _number("V"),
    "Ambulance.AuxiliaryBattery.Current": _number("A"),
    "Ambulance.Inverter.IsOn": _BOOLEAN,
    "Ambulance.Inverter.HasFault": _BOOLEAN,
    "Ambulance.HighIdle.IsActive": _BOOLEAN,
    "Ambulance.PatientCompartment.Temperature": _number("celsius"),
    "Ambulance.PatientCompartment.CarbonMonoxide": _number("ppm"),
    "Ambulance.PatientCompartment.Door.IsOpen": _BOOLEAN,
    **_each(f"Ambulance.PatientCompartment.Seat.{COMPARTMENT_SEATS}.{{IsBelted|IsOccupied}}", _BOOLEAN),
    "Ambulance.Cot.IsLocked": _BOOLEAN,
    "Ambulance.Oxygen.Pressure": _number("kPa"),
    "Ambulance.Oxygen.Reserve.Pressure": _number("kPa"),
    "Ambulance.DrugStore.Temperature": _number("celsius"),
    "Ambulance.DrugStore.Door.IsOpen": _BOOLEAN,
    "Ambulance.DrugFridge.Temperature": _number("celsius"),
}
"""Names the agent knows the meaning of. A vehicle file may use other VSS paths; it then gives the unit."""

_SEGMENTS = frozenset(segment for name in SIGNALS for segment in name.split("."))


def near_miss(name: str) -> str | None:
    """The known name that an unknown one must be meant for: one word of it is misspelt. Else None.

    A path of VSS that is only not known here is not refused: it differs in a whole word, or in a number.
    """
    words = name.split(".")
    for known in SIGNALS:
        others = known.split(".")
        if len(others) != len(words):
            continue
        pairs = [(word, other) for word, other in zip(words, others, strict=True) if word != other]
        if len(pairs) == 1 and _is_misspelt(*pairs[0]):
            return known
    return None


def _is_misspelt(word: str, right: str) -> bool:
    if word in _SEGMENTS or word.strip("0123456789") == right.strip("0123456789"):
        return False
    # Short words differ by a letter and mean other things.
    return word.lower() == right.lower() or (
        len(word) >= _LONG_ENOUGH and SequenceMatcher(None, word, right).ratio() >= _SIMILAR
    )


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
    "A": _Unit("current", 1),
    "Nm": _Unit("torque", 1),
    "ppm": _Unit("concentration", 1),
    "m/s^2": _Unit("acceleration", 1),
    "g": _Unit("acceleration", 9.80665),
    "degrees/s": _Unit("turning", 1),
    "rad/s": _Unit("turning", 180 / pi),
    "l/100km": _Unit("consumption", 1),
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
    "rad": _Unit("angle", 180 / pi),
}

UNIT_TOKENS = tuple(_UNITS)
"""The units that are converted from and to."""

_SPELLINGS: dict[str, str] = {
    "kmh": "km/h", "kph": "km/h", "km/hr": "km/h", "kmph": "km/h",
    "mi/h": "mph", "mile/h": "mph", "meters/s": "m/s",
    "meter": "m", "meters": "m", "mile": "mi", "miles": "mi",
    "%": "percent", "pct": "percent", "v": "V", "volt": "V", "volts": "V", "mv": "mV",
    "1/min": "rpm", "r/min": "rpm", "u/min": "rpm", "min-1": "rpm",
    "degc": "celsius", "deg c": "celsius", "deg_c": "celsius", "°c": "celsius", "c": "celsius",
    "degf": "fahrenheit", "deg f": "fahrenheit", "deg_f": "fahrenheit", "°f": "fahrenheit", "f": "fahrenheit",
    "m/s2": "m/s^2", "m/s/s": "m/s^2", "deg/s": "degrees/s", "ampere": "A", "amps": "A", "amp": "A", "a": "A",
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
