"""The state of the ambulance behind its CAN bus, as a function of the situation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from hil.drive.timeline import Activity, Situation

IDLE_RPM, HIGH_IDLE_RPM = 690.0, 1_150.0
"""At a scene with the lights on, the upfitter's module raises the idle to spare the battery."""
GEARS = ((18, 88.0), (32, 55.0), (50, 39.0), (72, 29.0), (98, 22.5), (math.inf, 18.5))
"""(highest speed in km/h, engine revolutions per minute for each km/h) of a six-speed automatic."""
TANK_L, LITRES_PER_KM, IDLE_LITRES_PER_H = 98.0, 0.21, 2.6
CRANK_S = 1.2
LOAD_S = 22.0
"""How long it takes to load or unload the stretcher through the rear doors."""


class Ignition(IntEnum):
    """Key position, numbered as on the demo vehicle's bus."""

    OFF = 1
    ON = 3
    START = 4


@dataclass(frozen=True, slots=True)
class VehicleState:
    """What the modules on the bus know; units in the names, doors True when open."""

    speed_kmh: float
    engine_rpm: float
    engine_running: bool
    coolant_c: float
    gear_drive: bool
    parking_brake: bool
    ignition: Ignition
    driver_door: bool
    rear_doors: bool
    patient_door: bool
    driver_belted: bool
    emergency_lights: bool
    siren: bool
    shore_power: bool
    patient_c: float
    odometer_km: float
    fuel_percent: float
    battery_v: float
    brake_pedal: bool
    antilock_braking: bool
    accelerator_percent: float
    high_idle: bool
    siren_mode: int
    inverter: bool
    passenger_seat: bool
    passenger_unbelted: bool
    attendant_seat: bool
    attendant_standing: bool
    bench_seat: bool
    cot_locked: bool
    oxygen_kpa: float
    drug_store_c: float
    fridge_c: float
    auxiliary_battery_v: float


def vehicle_state(
    situation: Situation, *, ignition_off_s: float, odometer_km: float, fuel_percent: float
) -> VehicleState:
    """The vehicle's state in a situation.

    Args:
        situation: where it is and how it moves.
        ignition_off_s: when in the shift the engine is switched off.
        odometer_km: odometer at the start of the shift.
        fuel_percent: fuel at the start of the shift.
    """
    t_s, activity, driving = situation.t_s, situation.activity, situation.driving
    since_s, left_s = situation.since_s, situation.left_s
    off = t_s >= ignition_off_s
    running = t_s >= CRANK_S and not off
    standing_crew = not driving and activity in (Activity.AT_SCENE, Activity.AT_HOSPITAL)
    # Crews leave the cab a few seconds after stopping and are back a few seconds before setting off.
    out_of_cab = standing_crew and since_s > 5 and left_s > 7
    rear_doors = standing_crew and (5 < since_s < 5 + min(LOAD_S, left_s) or 8 < left_s < 8 + LOAD_S)
    used_l = (
        situation.travelled_m / 1000 * LITRES_PER_KM + min(t_s, ignition_off_s) / 3600 * IDLE_LITRES_PER_H
    )
    return VehicleState(
        speed_kmh=situation.speed_mps * 3.6,
        engine_rpm=_engine_rpm(situation, running),
        engine_running=running,
        coolant_c=88 - 58 * math.exp(-t_s / 260),
        gear_drive=driving and not off,
        parking_brake=not driving,
        ignition=Ignition.OFF if off else Ignition.START if t_s < CRANK_S else Ignition.ON,
        driver_door=standing_crew and (5 < since_s < 9 or 7 < left_s < 11),
        rear_doors=rear_doors,
        patient_door=standing_crew and 12 < since_s < 18,
        driver_belted=driving or (not out_of_cab and since_s < 5 < t_s) or (left_s < 5 and not off),
        emergency_lights=situation.lights and not off,
        siren=situation.lights and driving and situation.speed_mps > 2,
        shore_power=activity is Activity.WAITING and since_s > 120 and left_s > 60,
        patient_c=21.0 + 1.2 * math.sin(t_s / 1700) - (0.8 if rear_doors else 0.0),
        odometer_km=odometer_km + situation.travelled_m / 1000,
        fuel_percent=max(fuel_percent - used_l / TANK_L * 100, 2.0),
        battery_v=(14.2 if running else 10.4 if t_s < CRANK_S else 12.6)
        - (0.25 if situation.lights else 0)
        + 0.03 * math.sin(t_s / 7.3),
        brake_pedal=driving and situation.acceleration_mps2 < -0.4,
        antilock_braking=False,
        accelerator_percent=min(max(situation.acceleration_mps2, 0) * 22 + 6, 100) if driving else 0,
        high_idle=running and not driving and activity is Activity.AT_SCENE,
        siren_mode=_siren_mode(situation, driving),
        inverter=not off,
        passenger_seat=driving and activity is not Activity.TRANSPORTING,
        passenger_unbelted=False,
        attendant_seat=activity is Activity.TRANSPORTING,
        attendant_standing=activity is Activity.TRANSPORTING and 60 < since_s < 90,
        bench_seat=False,
        cot_locked=not rear_doors,
        oxygen_kpa=max(13_800 - max(situation.travelled_m, 0) / 40, 1_500),
        drug_store_c=21.5 + 0.6 * math.sin(t_s / 2100),
        fridge_c=4.6 + 0.5 * math.sin(t_s / 700),
        auxiliary_battery_v=(13.9 if running else 12.7) + 0.02 * math.sin(t_s / 11.1),
    )


def _siren_mode(situation: Situation, driving: bool) -> int:
    """0 off, 2 wail, 3 yelp: near a crossing the crew changes the tone."""
    if not (situation.lights and driving and situation.speed_mps > 2):
        return 0
    return 3 if situation.speed_mps < 7 else 2


def _engine_rpm(situation: Situation, running: bool) -> float:
    if not running:
        return 210.0 if situation.t_s < CRANK_S else 0.0
    if not situation.driving:
        idle = HIGH_IDLE_RPM if situation.activity is Activity.AT_SCENE else IDLE_RPM
        return idle + 6 * math.sin(situation.t_s * 1.7)
    speed_kmh = situation.speed_mps * 3.6
    ratio = next(ratio for highest, ratio in GEARS if speed_kmh <= highest)
    return max(speed_kmh * ratio + 140 * max(situation.acceleration_mps2, 0), IDLE_RPM)
