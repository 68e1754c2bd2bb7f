"""What SAE J1979 (ISO 15031-5) says of the answers of mode 01, as far as fleet services read them.

An answer is heard on the bus, whoever asked. The agent itself asks nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

ANSWER_ID = 0x7E8
"""The engine's control unit answers with this identifier; up to 0x7EF are others'."""
MESSAGE_BYTES = 8
ANSWER_TO = 0x40
"""Added to the mode in an answer."""
FIRST_DATA_BYTE = 3
"""Behind length, mode and PID."""


@dataclass(frozen=True, slots=True)
class Pid:
    """One parameter.

    Attributes:
        title: in plain words.
        bytes: of its data, from A.
        scale: value = raw * scale + offset, the raw being big-endian.
        offset: see `scale`.
        unit: of the value; empty for a switch or a state.
        start_bit: lowest bit within the data when it is not all of it, counted from the last byte's lowest.
        bits: how many then; 0 for all of the data.
    """

    title: str
    bytes: int
    scale: float = 1
    offset: float = 0
    unit: str = ""
    start_bit: int = 0
    bits: int = 0


PIDS: dict[str, Pid] = {
    "01-01": Pid("Malfunction indicator lamp", 4, start_bit=31, bits=1),
    "01-04": Pid("Calculated engine load", 1, 100 / 255, unit="%"),
    "01-05": Pid("Engine coolant temperature", 1, 1, -40, "degC"),
    "01-0C": Pid("Engine speed", 2, 0.25, unit="rpm"),
    "01-0D": Pid("Vehicle speed", 1, unit="km/h"),
    "01-0F": Pid("Intake air temperature", 1, 1, -40, "degC"),
    "01-11": Pid("Throttle position", 1, 100 / 255, unit="%"),
    "01-1E": Pid("Power take-off active", 1, start_bit=0, bits=1),
    "01-1F": Pid("Time since engine start", 2, unit="s"),
    "01-2F": Pid("Fuel level", 1, 100 / 255, unit="%"),
    "01-33": Pid("Barometric pressure", 1, unit="kPa"),
    "01-42": Pid("Control module voltage", 2, 0.001, unit="V"),
    "01-46": Pid("Ambient air temperature", 1, 1, -40, "degC"),
    "01-49": Pid("Accelerator pedal position D", 1, 100 / 255, unit="%"),
    "01-5C": Pid("Engine oil temperature", 1, 1, -40, "degC"),
    "01-5E": Pid("Engine fuel rate", 2, 0.05, unit="l/h"),
    "01-A6": Pid("Odometer", 4, 0.1, unit="km"),
}
"""Those whose answer fits into one frame."""


def mode_and_pid(written: str) -> tuple[int, int]:
    """(mode, PID) of "01-0D"."""
    mode, pid = written.split("-")
    return int(mode, 16), int(pid, 16)
