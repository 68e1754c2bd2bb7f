"""J1939: which control unit is believed when several send the same parameter group.

The engine, the brakes and the cab may all send the vehicle speed, some of them as "not available". Taking
whatever came last would make the value flicker.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.domain.record import SignalValue

SILENT_NS = 5_000_000_000
"""A control unit that was not heard for this long has lost its say."""


@dataclass(slots=True)
class _Speaker:
    address: int
    heard_ns: int
    has_value: bool


class Speakers:
    """Keeps to one control unit for each signal, for as long as it has something to say. Pure state."""

    def __init__(self) -> None:
        self._believed: dict[str, _Speaker] = {}

    def believes(self, name: str, address: int, value: SignalValue | None, at_ns: int) -> bool:
        """Take note of a value; False when another control unit is believed for this signal.

        Args:
            name: the signal.
            address: source address of the frame.
            value: what it says, None for "not available".
            at_ns: CLOCK_BOOTTIME of the frame.
        """
        speaker = self._believed.get(name)
        if speaker is None or speaker.address == address:
            self._believed[name] = _Speaker(address, at_ns, value is not None)
            return True
        has_lost_its_say = not speaker.has_value or at_ns - speaker.heard_ns > SILENT_NS
        if value is None or not has_lost_its_say:
            return False
        self._believed[name] = _Speaker(address, at_ns, has_value=True)
        return True
