"""The demo ambulance's CAN bus: its state as frames, encoded by the vehicle's own DBC."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.drive.vehicle_state import VehicleState

DEMO_DBC = Path(__file__).parent.parent.parent / "config" / "vehicles" / "demo_ambulance.dbc"
COUNTERS = ("MotionCounter", "EngineCounter")
"""Signals that count the frames of their message, modulo 16."""

SIGNALS: Mapping[str, Callable[[VehicleState], float]] = {
    "VehicleSpeed": lambda state: state.speed_kmh,
    "EngineSpeed": lambda state: state.engine_rpm,
    "CoolantTemperature": lambda state: state.coolant_c,
    "EngineRunning": lambda state: state.engine_running,
    "GearSelected": lambda state: 3 if state.gear_drive else 0,
    "ParkingBrake": lambda state: state.parking_brake,
    "IgnitionState": lambda state: state.ignition,
    "DriverDoor": lambda state: state.driver_door,
    "RearDoors": lambda state: state.rear_doors,
    "PatientDoor": lambda state: state.patient_door,
    "DriverBelt": lambda state: state.driver_belted,
    "EmergencyLights": lambda state: state.emergency_lights,
    "Siren": lambda state: state.siren,
    "ShorePower": lambda state: state.shore_power,
    "PatientTemperature": lambda state: state.patient_c,
    "BrakePedal": lambda state: state.brake_pedal,
    "AntilockBraking": lambda state: state.antilock_braking,
    "AcceleratorPedal": lambda state: state.accelerator_percent,
    "HighIdle": lambda state: state.high_idle,
    "SirenMode": lambda state: state.siren_mode,
    "Inverter": lambda state: state.inverter,
    "PassengerSeat": lambda state: state.passenger_seat,
    "PassengerBelt": lambda state: state.passenger_seat and not state.passenger_unbelted,
    "AttendantSeat": lambda state: state.attendant_seat,
    "AttendantBelt": lambda state: state.attendant_seat and not state.attendant_standing,
    "BenchSeat": lambda state: state.bench_seat,
    "BenchBelt": lambda state: state.bench_seat,
    "CprSeat": lambda _: False,
    "CprBelt": lambda _: False,
    "CotLock": lambda state: state.cot_locked,
    "OxygenPressure": lambda state: state.oxygen_kpa,
    "DrugStoreTemperature": lambda state: state.drug_store_c,
    "FridgeTemperature": lambda state: state.fridge_c,
    "AuxiliaryBattery": lambda state: state.auxiliary_battery_v,
    "Odometer": lambda state: state.odometer_km,
    "FuelLevel": lambda state: state.fuel_percent,
    "BatteryVoltage": lambda state: state.battery_v,
}
"""Signal of the DBC to its value in the DBC's unit."""


@dataclass(frozen=True, slots=True)
class _Field:
    """Where a signal lies: `raw = round((value - offset) / scale)`, masked, then shifted left by `shift`."""

    value: Callable[[VehicleState], float]
    scale: float
    offset: float
    shift: int
    mask: int


@dataclass(frozen=True, slots=True)
class BusMessage:
    """A message of the bus.

    Attributes:
        name: in the DBC.
        can_id: identifier.
        extended: 29-bit identifier.
        length: bytes.
        cycle_s: how often it is sent.
        counter_shift: bit of its frame counter, None without one.
        fields: its signals.
    """

    name: str
    can_id: int
    extended: bool
    length: int
    cycle_s: float
    counter_shift: int | None
    fields: tuple[_Field, ...]

    def encode(self, state: VehicleState, count: int) -> bytes:
        """The payload of the frame number `count`."""
        bits = 0 if self.counter_shift is None else (count & 15) << self.counter_shift
        for field in self.fields:
            bits |= (round((field.value(state) - field.offset) / field.scale) & field.mask) << field.shift
        return bits.to_bytes(self.length, "little")


def bus_messages(dbc: Path = DEMO_DBC) -> list[BusMessage]:
    """The messages of the demo vehicle's DBC.

    Integers are packed here and not by cantools, which takes much longer: a shift has millions of frames.

    Raises:
        OSError: the DBC can not be read.
        ValueError: it has a signal that the simulated vehicle does not know, or a big-endian one.
    """
    import cantools.database

    database = cantools.database.can.Database()
    database.add_dbc_file(dbc)
    return [_message(message) for message in database.messages]


def _message(message: Any) -> BusMessage:
    counters = [signal.start for signal in message.signals if signal.name in COUNTERS]
    return BusMessage(
        name=message.name,
        can_id=message.frame_id,
        extended=message.is_extended_frame,
        length=message.length,
        cycle_s=(message.cycle_time or 1000) / 1000,
        counter_shift=counters[0] if counters else None,
        fields=tuple(_field(signal) for signal in message.signals if signal.name not in COUNTERS),
    )


def _field(signal: Any) -> _Field:
    if signal.byte_order != "little_endian" or signal.is_multiplexer or signal.is_float:
        raise ValueError(f"{signal.name}: only plain little-endian integers are simulated")
    if signal.name not in SIGNALS:
        raise ValueError(f"{signal.name}: the simulated vehicle has no such value")
    return _Field(SIGNALS[signal.name], signal.scale, signal.offset, signal.start, (1 << signal.length) - 1)
