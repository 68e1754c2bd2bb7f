"""What SAE J1939-71 says of the parameters that an ambulance's fleet services read, by SPN.

A vehicle file that names an SPN needs no DBC. What is not here can be described in the file by its parameter
group and bits. Bytes are counted from 1, as the standard does; values are little-endian.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Spn:
    """One suspect parameter.

    Attributes:
        title: in plain words.
        pgn: its parameter group.
        start_bit: its lowest bit, counted from 0 at the beginning of the data.
        bits: how many.
        scale: value = raw * scale + offset.
        offset: see `scale`.
        unit: of the value; empty for a switch or a state.
        words: states by their raw value.
    """

    title: str
    pgn: int
    start_bit: int
    bits: int
    scale: float = 1
    offset: float = 0
    unit: str = ""
    words: Mapping[int, str] = field(default_factory=dict)


def _bytes(  # noqa: PLR0917  # the columns of the standard's table, in its order
    title: str, pgn: int, first: int, count: int, scale: float, offset: float = 0, unit: str = ""
) -> Spn:
    """A number of whole bytes, of which the first is counted from 1."""
    return Spn(title, pgn, (first - 1) * 8, count * 8, scale, offset, unit)


def _switch(title: str, pgn: int, byte: int, bit: int) -> Spn:
    return Spn(title, pgn, (byte - 1) * 8 + bit - 1, 2)


SPNS: dict[int, Spn] = {
    51: _bytes("Engine throttle position", 65266, 7, 1, 0.4, unit="%"),
    70: _switch("Parking brake switch", 65265, 1, 3),
    84: _bytes("Wheel-based vehicle speed", 65265, 2, 2, 1 / 256, unit="km/h"),
    91: _bytes("Accelerator pedal position 1", 61443, 2, 1, 0.4, unit="%"),
    92: _bytes("Engine percent load at current speed", 61443, 3, 1, 1, unit="%"),
    96: _bytes("Fuel level 1", 65276, 2, 1, 0.4, unit="%"),
    100: _bytes("Engine oil pressure", 65263, 4, 1, 4, unit="kPa"),
    108: _bytes("Barometric pressure", 65269, 1, 1, 0.5, unit="kPa"),
    110: _bytes("Engine coolant temperature", 65262, 1, 1, 1, -40, "degC"),
    158: _bytes("Keyswitch battery potential", 65271, 7, 2, 0.05, unit="V"),
    168: _bytes("Battery potential", 65271, 5, 2, 0.05, unit="V"),
    170: _bytes("Cab interior temperature", 65269, 2, 2, 0.03125, -273, "degC"),
    171: _bytes("Ambient air temperature", 65269, 4, 2, 0.03125, -273, "degC"),
    174: _bytes("Engine fuel temperature", 65262, 2, 1, 1, -40, "degC"),
    175: _bytes("Engine oil temperature", 65262, 3, 2, 0.03125, -273, "degC"),
    183: _bytes("Engine fuel rate", 65266, 1, 2, 0.05, unit="l/h"),
    190: _bytes("Engine speed", 61444, 4, 2, 0.125, unit="rpm"),
    235: _bytes("Engine total idle hours", 65244, 5, 4, 0.05, unit="h"),
    236: _bytes("Engine total idle fuel used", 65244, 1, 4, 0.5, unit="l"),
    244: _bytes("Trip distance", 65248, 1, 4, 0.125, unit="km"),
    245: _bytes("Total vehicle distance", 65248, 5, 4, 0.125, unit="km"),
    247: _bytes("Engine total hours of operation", 65253, 1, 4, 0.05, unit="h"),
    250: _bytes("Engine total fuel used", 65257, 5, 4, 0.5, unit="l"),
    521: _bytes("Brake pedal position", 61441, 2, 1, 0.4, unit="%"),
    523: _bytes("Transmission current gear", 61445, 4, 1, 1, -125),
    524: _bytes("Transmission selected gear", 61445, 1, 1, 1, -125),
    563: _switch("Anti-lock braking active", 61441, 1, 5),
    597: _switch("Brake switch", 65265, 4, 5),
    917: _bytes("High resolution total vehicle distance", 65217, 1, 4, 5, unit="m"),
    976: Spn("Power take-off state", 65265, 48, 5, words={0: "off", 5: "set"}),
    1761: _bytes("Diesel exhaust fluid tank level", 65110, 1, 1, 0.4, unit="%"),
    1807: _bytes("Steering wheel angle", 61449, 1, 2, 1 / 1024, -31.374, "rad"),
    1808: _bytes("Yaw rate", 61449, 4, 2, 1 / 8192, -3.92, "rad/s"),
    1809: _bytes("Lateral acceleration", 61449, 6, 2, 1 / 2048, -15.687, "m/s^2"),
    1810: _bytes("Longitudinal acceleration", 61449, 8, 1, 0.1, -12.5, "m/s^2"),
    1821: Spn("Position of doors", 65102, 0, 4, words={0: "open", 1: "closing", 2: "closed"}),
    1856: _switch("Seat belt switch", 57344, 4, 7),
}
"""Those that were checked; `title` is for messages to a person."""

MESSAGE_BYTES = 8
