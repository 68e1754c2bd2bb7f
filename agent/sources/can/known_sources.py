"""Messages that need no DBC: J1939 parameter groups, and the answers of OBD-II."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from agent.sources.can import j1939_catalogue, obd_catalogue
from agent.sources.can.can_decoder import BitField, MessageLayout, MultiplexCondition, group_number
from agent.sources.can.vehicle_file import VehicleFile, WantedSignal

_BROADCAST_PRIORITY = 0x18000000
_LENGTH = BitField(0, 0xFF, big_endian=False)
_MODE_AND_PID = BitField(8, 0xFFFF, big_endian=False)


@dataclass(frozen=True, slots=True)
class KnownSignal:
    """A signal with the attributes that cantools gives one."""

    name: str
    start: int
    length: int
    scale: float = 1
    offset: float = 0
    unit: str = ""
    choices: Mapping[int, str] = field(default_factory=dict)
    byte_order: str = "little_endian"
    is_signed: bool = False
    is_float: bool = False
    multiplexer_signal: None = None


@dataclass(frozen=True, slots=True)
class KnownMessage:
    """A message with the attributes that cantools gives one.

    Attributes:
        conditions: what must stand in a frame for a signal to be in it, by the signal's name.
    """

    name: str
    frame_id: int
    is_extended_frame: bool
    length: int
    signals: tuple[KnownSignal, ...]
    conditions: Mapping[str, tuple[MultiplexCondition, ...]] = field(default_factory=dict)

    def completed(self, layout: MessageLayout) -> MessageLayout:
        """The layout with the conditions of its signals."""
        signals = tuple(
            replace(signal, conditions=self.conditions.get(signal.name, ())) for signal in layout.signals
        )
        used_bits = layout.used_bits
        for signal in signals:
            for condition in signal.conditions:
                used_bits |= condition.selector.mask << condition.selector.shift
        return replace(layout, signals=signals, used_bits=used_bits)


def known_messages(vehicle: VehicleFile) -> Iterator[tuple[KnownMessage, list[WantedSignal]]]:
    """The messages of the signals that are found without a DBC; a signal is named as in the file."""
    groups: dict[int, list[WantedSignal]] = {}
    answers: dict[int, list[WantedSignal]] = {}
    for wanted in vehicle.signals:
        if wanted.pid is not None:
            answers.setdefault(wanted.answer_id or obd_catalogue.ANSWER_ID, []).append(wanted)
        elif wanted.message is None:
            pgn = wanted.pgn if wanted.spn is None else j1939_catalogue.SPNS[wanted.spn].pgn
            groups.setdefault(pgn or 0, []).append(wanted)
    for pgn, group in groups.items():
        yield _group(pgn, group), group
    for can_id, group in answers.items():
        yield _answer(can_id, group), group


def merged(layouts: list[MessageLayout], protocol: str) -> list[MessageLayout]:
    """Make one of the layouts that describe the same frames, as a DBC and a catalogue may.

    Raises ValueError when they do not agree on the length.
    """
    by_frames: dict[tuple[int, bool], MessageLayout] = {}
    for layout in layouts:
        is_group = protocol == "j1939" and layout.extended
        key = (group_number(layout.can_id) if is_group else layout.can_id, layout.extended)
        other = by_frames.get(key)
        if other is None:
            by_frames[key] = layout
        elif other.length != layout.length:
            raise ValueError(
                f"{other.name} and {layout.name} describe the same frames, with {other.length} and "
                f"{layout.length} bytes"
            )
        else:
            by_frames[key] = replace(
                other,
                signals=other.signals + layout.signals,
                used_bits=other.used_bits | layout.used_bits,
                has_big_endian=other.has_big_endian or layout.has_big_endian,
            )
    return list(by_frames.values())


def _group(pgn: int, group: list[WantedSignal]) -> KnownMessage:
    signals = []
    for wanted in group:
        if wanted.spn is not None:
            spn = j1939_catalogue.SPNS[wanted.spn]
            signals.append(
                KnownSignal(
                    wanted.name, spn.start_bit, spn.bits, spn.scale, spn.offset, spn.unit, choices=spn.words
                )
            )
        else:
            signals.append(KnownSignal(wanted.name, wanted.start_bit or 0, wanted.bits or 1, unit=""))
    length = max([j1939_catalogue.MESSAGE_BYTES, *((one.start + one.length + 7) // 8 for one in signals)])
    return KnownMessage(f"group {pgn}", _BROADCAST_PRIORITY | pgn << 8, True, length, tuple(signals))


def _answer(can_id: int, group: list[WantedSignal]) -> KnownMessage:
    signals: list[KnownSignal] = []
    conditions: dict[str, tuple[MultiplexCondition, ...]] = {}
    for wanted in group:
        written = wanted.pid or ""
        pid = obd_catalogue.PIDS[written]
        mode, number = obd_catalogue.mode_and_pid(written)
        from_msb = pid.bytes * 8 - pid.start_bit - pid.bits if pid.bits else 0
        first = obd_catalogue.FIRST_DATA_BYTE * 8 + from_msb
        start = first // 8 * 8 + 7 - first % 8
        signals.append(
            KnownSignal(
                wanted.name, start, pid.bits or pid.bytes * 8, pid.scale, pid.offset, pid.unit,
                byte_order="big_endian",
            )
        )  # fmt: skip
        # A single frame of at least so many bytes; behind it, padding may say anything.
        lengths = frozenset(range(pid.bytes + 2, obd_catalogue.MESSAGE_BYTES))
        answer = (mode + obd_catalogue.ANSWER_TO) | number << 8
        conditions[wanted.name] = (
            MultiplexCondition(_LENGTH, lengths),
            MultiplexCondition(_MODE_AND_PID, frozenset({answer})),
        )
    name = f"answer {can_id:X}"
    extended = can_id > 0x7FF  # noqa: PLR2004  # the largest of 11 bits
    return KnownMessage(name, can_id, extended, obd_catalogue.MESSAGE_BYTES, tuple(signals), conditions)
