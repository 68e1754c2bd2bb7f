"""What J1939 control units say of their faults, out of the frames of a bus, and the vehicle's number.

DM1 has the active trouble codes, each second. DM2, those that were active earlier, and the VIN are sent when
somebody asks for them: the agent does not, and hears them when a tester does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from agent.domain.trouble_codes import Code, Lamps
from agent.hal.can import CanFilter, CanFrame
from agent.sources.diagnostics.j1939_transport import CONNECTION_GROUP, DATA_GROUP, Reassembler
from agent.sources.diagnostics.obd_answers import plausible_vin

DM1, DM2 = 65_226, 65_227
VEHICLE_IDENTIFICATION = 65_260
_BROADCAST_MASK = 0x03FFFF00
_PEER_MASK = 0x03FF0000
_CODE_BYTES = 4
_ON = 1
_NO_COUNT = 0x7F

FILTERS: tuple[CanFilter, ...] = (
    (DM1 << 8, _BROADCAST_MASK, True),
    (DM2 << 8, _BROADCAST_MASK, True),
    (CONNECTION_GROUP << 8, _PEER_MASK, True),
    (DATA_GROUP << 8, _PEER_MASK, True),
)
"""The frames that `J1939Diagnostics` needs."""


@dataclass(frozen=True, slots=True)
class ActiveFaults:
    """What a control unit says is wrong now.

    Attributes:
        controller: its address.
        lamps: the warning lamps it asks for.
        codes: its codes; none when all is well.
        at_ns: CLOCK_BOOTTIME.
        previous: they were active earlier, and are not now.
    """

    controller: int
    lamps: Lamps
    codes: list[Code]
    at_ns: int
    previous: bool = False


class J1939Diagnostics:
    """Takes all frames of a J1939 bus, gives what is said of faults. Pure state.

    Attributes:
        transport: puts long messages together, and counts those that break.
        malformed: messages that can not be what they say.
        vin: the vehicle's number, once it was heard.
    """

    def __init__(self) -> None:
        self.transport = Reassembler()
        self.malformed = 0
        self.vin: str | None = None

    def take(self, frames: Iterable[CanFrame]) -> list[ActiveFaults]:
        """What the frames say, in their order."""
        found: list[ActiveFaults] = []
        for frame in frames:
            if not frame.extended:
                continue
            group = (frame.can_id >> 8) & 0x3FFFF
            if group in (DM1, DM2):
                self._add(found, group, frame.can_id & 0xFF, frame.data, frame.received_boottime_ns)
            elif (frame.can_id >> 8) & 0x3FF00 in (CONNECTION_GROUP, DATA_GROUP):
                message = self.transport.take(frame)
                if message is None:
                    continue
                if message.group in (DM1, DM2):
                    self._add(found, message.group, message.source, message.data, message.at_ns)
                elif message.group == VEHICLE_IDENTIFICATION:
                    self.vin = plausible_vin(message.data.partition(b"*")[0]) or self.vin
        return found

    def _add(self, found: list[ActiveFaults], group: int, controller: int, data: bytes, at_ns: int) -> None:
        decoded = decode_dm1(data)
        if decoded is None:
            self.malformed += 1
        else:
            found.append(ActiveFaults(controller, *decoded, at_ns, previous=group == DM2))


def decode_dm1(data: bytes) -> tuple[Lamps, list[Code]] | None:
    """Lamps and codes of a DM1 (SAE J1939-73, 5.7.1); None for data that is too short.

    A lone code of SPN 0 means that there is none; padding is all ones.
    """
    if len(data) < 2 + _CODE_BYTES:
        return None
    states = data[0]
    protect, warning, stop, malfunction = (_lamp(states >> shift) for shift in (0, 2, 4, 6))
    codes: list[Code] = []
    for at in range(2, len(data) - _CODE_BYTES + 1, _CODE_BYTES):
        raw = data[at : at + _CODE_BYTES]
        # Version 4 of the four ways to pack an SPN, which all control units since 1996 use.
        spn = raw[0] | raw[1] << 8 | (raw[2] >> 5) << 16
        fmi, count = raw[2] & 0x1F, raw[3] & 0x7F
        if raw == b"\xff\xff\xff\xff" or spn == 0:
            continue
        codes.append(Code(spn, fmi, None if count == _NO_COUNT else count))
    return Lamps(malfunction, stop, warning, protect), codes


def _lamp(bits: int) -> bool | None:
    return {0: False, _ON: True}.get(bits & 3)


class FaultTap:
    """Implements agent.sources.can.vehicle_bus.FrameTap: hands on what the control units of a bus say.

    Args:
        on_faults: gets what each control unit says.
        on_vin: gets the vehicle's number and CLOCK_BOOTTIME, when it is another than before.
    """

    filters = FILTERS

    def __init__(
        self, on_faults: Callable[[ActiveFaults], None], on_vin: Callable[[str, int], None] | None = None
    ) -> None:
        self._diagnostics = J1939Diagnostics()
        self._on_faults = on_faults
        self._on_vin = on_vin
        self._vin: str | None = None

    def take(self, frames: Sequence[CanFrame]) -> None:
        """Take frames, also such as are not wanted."""
        for faults in self._diagnostics.take(frames):
            self._on_faults(faults)
        vin = self._diagnostics.vin
        if vin != self._vin and vin is not None and self._on_vin is not None:
            self._vin = vin
            self._on_vin(vin, frames[-1].received_boottime_ns)
