"""Vehicle file and DBC to a decoder. cantools reads the DBC; nothing of it stays referenced.

As a program, which `decoder_cache` runs, it takes the vehicle file's path as its argument and the validated
file as JSON on standard input, and prints {"decoder": JSON text} or {"problems": [...]}.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from agent.config import ConfigError
from agent.config.plain_words import did_you_mean
from agent.domain.record import SignalValue
from agent.runtime.absent_library import absent
from agent.runtime.shortage import is_passing
from agent.sources.can import vss
from agent.sources.can.can_decoder import (
    BitField,
    CanDecoder,
    MessageLayout,
    MultiplexCondition,
    SignalLayout,
)
from agent.sources.can.dbc_excerpt import Dbc, DbcMessage, read_dbc
from agent.sources.can.decoder_json import to_json
from agent.sources.can.known_sources import known_messages, merged
from agent.sources.can.vehicle_file import VehicleFile, WantedSignal

_FLOAT_FORMATS = {16: ("<H", "<e"), 32: ("<I", "<f"), 64: ("<Q", "<d")}
_MAX_DECIMALS = 9
MAX_TEXT = 128
"""Letters of a word that a DBC gives a raw value; more is a story."""
_NO_VALUE = re.compile(
    r"(signal|value|data)?[ _-]*(not?[ _-]*(available|avail|value|data|used|valid)|n/?a|sna|unavailable|"
    r"invalid|error|fault|reserved|unused|undefined|unknown|init(ial)?)[ _-]*(indicator|value|code)?",
    re.IGNORECASE,
)
_J1939_HIGHEST_TOP_BYTE = 0xFA
"""SAE J1939-71, most significant byte: 0xFB to 0xFD are reserved, 0xFE is "error", 0xFF "not available"."""


def compile_decoder(vehicle: VehicleFile, path: Path) -> CanDecoder:
    """Make the decoder of a vehicle file; `path` names the file in messages.

    Raises:
        ConfigError: the DBC can not be read, or lacks what the file names; every problem at once.
    """
    layouts, problems = _from_dbc(vehicle, vehicle.dbc, path) if vehicle.dbc is not None else ([], [])
    for message, wanted in known_messages(vehicle):
        compiler = _MessageCompiler(message, vehicle, {id(one): one.name for one in wanted})
        layouts.append(message.completed(compiler.layout(wanted)))
        problems += compiler.problems
    try:
        layouts = merged(layouts, vehicle.protocol)
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise ConfigError([f"{path}: {problem}" for problem in problems])
    return CanDecoder(layouts, vehicle.protocol)


def _from_dbc(vehicle: VehicleFile, file: Path, path: Path) -> tuple[list[MessageLayout], list[str]]:
    """The layouts of the signals that are found in a DBC, and what is wrong. Raises ConfigError, OSError."""
    try:
        dbc = read_dbc(file)
    except OSError as error:
        if is_passing(error):
            raise
        raise ConfigError([f"{path}: dbc = {str(file)!r}: can not be read: {error.strerror}"]) from error
    problems = list(_unknown_names(vehicle, dbc))
    if problems:
        raise ConfigError([f"{path}: {problem}" for problem in problems])
    layouts: list[MessageLayout] = []
    for name, wanted in vehicle.of_message().items():
        for described in dbc.named(name):
            found = {id(one): described.signal(one.signal or "") for one in wanted}
            names = {key: signal.name for key, signal in found.items() if signal is not None}
            try:
                compiler = _MessageCompiler(_message(dbc, described, wanted), vehicle, names)
                layouts.append(compiler.layout(wanted))
            except NotUnderstoodError as error:
                problems.append(f"dbc = {str(file)!r}: {error}")
            except (ArithmeticError, ValueError, LookupError, TypeError) as error:
                # cantools takes numbers that nothing can be computed with.
                line = described.statement.line
                problems.append(f"dbc = {str(file)!r}: line {line}: message {name}: {error}")
            else:
                problems += compiler.problems
    return layouts, problems


class NotUnderstoodError(Exception):
    """cantools does not understand a message; the text names the DBC's own line."""


def _message(dbc: Dbc, described: DbcMessage, wanted: Iterable[WantedSignal]) -> Any:
    """A message as cantools understands it. Raises NotUnderstoodError."""
    with absent("asammdf"):
        from cantools.database import load_string
        from cantools.database.errors import Error as DatabaseError
    excerpt = dbc.excerpt(described, (one.signal or "" for one in wanted))
    try:
        # Not strict: two signals may share bits, as a value and its fault flag do in some makers' files.
        return load_string(excerpt.text, "dbc", strict=False).messages[0]  # type: ignore[union-attr]
    except (DatabaseError, ValueError, LookupError, ArithmeticError, TypeError) as error:
        cause = getattr(error, "e_dbc", None) or error
        line, text = described.statement.line, str(cause)
        own = getattr(cause, "line", None)
        if isinstance(own, int) and 0 < own <= len(excerpt.lines):
            line, text = excerpt.lines[own - 1], excerpt.text.splitlines()[own - 1].strip()
        raise NotUnderstoodError(
            f"line {line}: message {described.name} is not understood: {text}"
        ) from error


def _unknown_names(vehicle: VehicleFile, dbc: Dbc) -> Iterator[str]:
    known: dict[str, list[DbcMessage]] = {}
    for message in dbc.messages:
        for name in message.names():
            known.setdefault(name, []).append(message)
    for index, wanted in enumerate(vehicle.signals):
        if wanted.message is None or wanted.signal is None or vehicle.dbc is None:
            continue
        messages = known.get(wanted.message)
        if messages is None:
            why = f"no such message in {vehicle.dbc.name}{_closest(wanted.message, known)}"
            yield f"signals[{index}].message = {wanted.message!r}: {why}"
        elif not any(message.signal(wanted.signal) for message in messages):
            names = [name for message in messages for one in message.signals for name in one.names()]
            why = f"no such signal in {wanted.message}{_closest(wanted.signal, names)}"
            yield f"signals[{index}].signal = {wanted.signal!r}: {why}"


def _closest(name: str, known: Iterable[str]) -> str:
    by_lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""


def says_no_value(label: str) -> bool:
    """True for the words by which makers say that a raw value is none: "SNA", "not available", "error"."""
    return _NO_VALUE.fullmatch(label.strip()) is not None


class _MessageCompiler:
    """Compiles the wanted signals of one message, collecting what is wrong.

    Args:
        message: cantools' own, or what `known_sources` makes in its likeness.
        vehicle: the vehicle file.
        names: name in `message` of each wanted signal by its id; one that it lacks is left out.
    """

    def __init__(self, message: Any, vehicle: VehicleFile, names: Mapping[int, str]) -> None:
        self._message = message
        self._vehicle = vehicle
        self._names = names
        self._by_name = {signal.name: signal for signal in message.signals}
        self._used_bits = 0
        self._has_big_endian = False
        self.problems: list[str] = []

    def layout(self, wanted_signals: list[WantedSignal]) -> MessageLayout:
        """The layout; good only if `problems` is still empty."""
        # A name may stand for several messages, of which one may lack a signal of the other.
        signals = tuple(
            self._signal(self._names[id(wanted)], wanted)
            for wanted in wanted_signals
            if id(wanted) in self._names
        )
        return MessageLayout(
            name=self._message.name,
            can_id=self._message.frame_id,
            extended=self._message.is_extended_frame,
            length=self._message.length,
            signals=signals,
            used_bits=self._used_bits,
            has_big_endian=self._has_big_endian,
            source_address=wanted_signals[0].source_address,
        )

    def _signal(self, name: str, wanted: WantedSignal) -> SignalLayout:
        signal = self._by_name[name]
        bits = self._bits(signal, wanted)
        scale, offset, decimals = self._conversion(signal, wanted)
        values, only_values = self._values(signal, wanted, bits)
        float_format = _FLOAT_FORMATS.get(signal.length) if signal.is_float else None
        if signal.is_float and float_format is None:
            self._wrong(wanted, "signal", f"a floating-point value of {signal.length} bits")
        return SignalLayout(
            name=wanted.name,
            unit=wanted.meaning.unit,
            bits=bits,
            sign_bit=1 << (signal.length - 1) if signal.is_signed and not signal.is_float else 0,
            float_format=float_format,
            scale=scale,
            offset=offset,
            decimals=decimals,
            values=values,
            only_values=only_values,
            highest_raw=self._highest_raw(signal),
            conditions=self._conditions(signal, wanted),
            deadband=wanted.deadband,
            min_interval_ns=round(wanted.min_interval_s * 1e9),
            lowest=wanted.plausible[0] if wanted.plausible else None,
            highest=wanted.plausible[1] if wanted.plausible else None,
            steps=tuple(sorted((float(lowest), value) for lowest, value in wanted.steps.items())),
        )

    def _bits(self, signal: Any, wanted: WantedSignal) -> BitField:
        total = self._message.length * 8
        if signal.start < 0 or not 0 < signal.length <= total:
            self._wrong(wanted, "signal", f"{signal.name} does not fit in the {self._message.length} bytes")
            return BitField(shift=0, mask=1, big_endian=False)
        mask = (1 << signal.length) - 1
        if signal.byte_order == "little_endian":
            shift = signal.start
            self._used_bits |= mask << shift
        else:
            # Bytes count from the left, bits in a byte from the right; `start` is the most significant bit.
            first = signal.start // 8 * 8 + (7 - signal.start % 8)
            shift = total - first - signal.length
            self._has_big_endian = True
            for position in range(first, first + signal.length):
                self._used_bits |= 1 << (position // 8 * 8 + 7 - position % 8)
        if shift < 0 or shift + signal.length > total:
            self._wrong(wanted, "signal", f"{signal.name} does not fit in the {self._message.length} bytes")
        return BitField(shift=max(shift, 0), mask=mask, big_endian=signal.byte_order != "little_endian")

    def _conditions(self, signal: Any, wanted: WantedSignal) -> tuple[MultiplexCondition, ...]:
        conditions: list[MultiplexCondition] = []
        while signal.multiplexer_signal is not None:
            ids = frozenset(signal.multiplexer_ids or ())
            signal = self._by_name[signal.multiplexer_signal]
            conditions.append(MultiplexCondition(self._bits(signal, wanted), ids))
        return tuple(reversed(conditions))

    def _conversion(self, signal: Any, wanted: WantedSignal) -> tuple[float, float, int | None]:
        scale, offset = signal.scale, signal.offset
        to_scale: float | None = wanted.scale
        to_offset: float | None = wanted.offset
        unit = wanted.meaning.unit
        given = "" if vss.is_no_unit(signal.unit or "") else signal.unit
        if unit is None and given and not wanted.map and not wanted.steps and wanted.name not in vss.SIGNALS:
            self._wrong(wanted, "unit", f"missing: the DBC gives {given!r}")
        if to_scale is None and to_offset is None and unit is not None and not wanted.steps:
            written = wanted.from_unit if wanted.from_unit is not None else given
            derived = vss.conversion(written, unit)
            if derived is None:
                what = f"the DBC gives {written!r}" if written else "the DBC gives no unit"
                hint = (
                    ""
                    if unit in vss.UNIT_TOKENS
                    else did_you_mean(vss.unit_token(unit) or unit, vss.UNIT_TOKENS)
                )
                self._wrong(
                    wanted,
                    "unit",
                    f"{what}, which is not known to convert to {unit}; give from_unit or scale{hint}",
                )
            else:
                to_scale, to_offset = derived
        if to_scale is not None and to_scale != 1:
            scale, offset = _product(scale, to_scale), _product(offset, to_scale)
        if not (math.isfinite(scale) and math.isfinite(offset)) or scale == 0:
            raise ValueError(f"a scale of {scale:g} and an offset of {offset:g} give no value")
        scale, offset = _whole(scale), _whole(offset + (to_offset or 0))
        if signal.is_float or (isinstance(scale, int) and isinstance(offset, int)):
            return scale, offset, None
        return scale, offset, _decimals(scale, offset)

    def _values(
        self, signal: Any, wanted: WantedSignal, bits: BitField
    ) -> tuple[dict[int, SignalValue | None], bool]:
        labels = {int(raw) & bits.mask: str(label) for raw, label in (signal.choices or {}).items()}
        meaning = self._meaning(wanted, labels)
        if wanted.steps:
            return dict.fromkeys([raw & bits.mask for raw in wanted.not_available]), False
        values: dict[int, SignalValue | None] = {}
        if meaning.type is vss.ValueType.NUMBER:
            # A maker who puts a word on a raw value of a number says that it is none: "SNA", "error", "init".
            values = dict.fromkeys(labels, None) if meaning.unit is not None else {}
        elif not wanted.map:
            values = self._own_values(meaning, labels, wanted, bits)
        for key, value in wanted.map.items():
            raw = self._raw_of(key, labels, wanted, bits)
            if raw is not None:
                values[raw] = value
        for raw in wanted.not_available:
            values[raw & bits.mask] = None
        only_values = meaning.type is not vss.ValueType.NUMBER or (bool(wanted.map) and meaning.unit is None)
        if signal.is_float and (values or only_values):
            self._wrong(wanted, "signal", "a floating-point value can not be mapped")
        return values, only_values

    def _meaning(self, wanted: WantedSignal, labels: dict[int, str]) -> vss.Meaning:
        meaning = wanted.meaning
        is_told = meaning.unit is not None or wanted.map or wanted.steps
        if meaning.type is not vss.ValueType.NUMBER or is_told or not labels:
            return meaning
        if wanted.name in vss.SIGNALS:
            self._wrong(
                wanted, "map", f"missing: the DBC names the values of {wanted.signal}; say what they mean"
            )
        return vss.Meaning(vss.ValueType.TEXT)

    def _own_values(
        self, meaning: vss.Meaning, labels: dict[int, str], wanted: WantedSignal, bits: BitField
    ) -> dict[int, SignalValue | None]:
        """Values without a map: 0 and 1 of a short field are False and True, labels are their own words."""
        if meaning.type is vss.ValueType.BOOLEAN:
            if bits.mask <= 3:  # noqa: PLR2004  # one bit, or two of which the upper says "error" or "not available"
                return {0: False, 1: True}
            self._wrong(wanted, "map", "missing: which raw values are true and which false")
            return {}
        unknown = [label for label in labels.values() if meaning.allowed and label not in meaning.allowed]
        if not labels or len(unknown) == len(labels):
            self._wrong(wanted, "map", "missing: the DBC has no labels that VSS knows")
        return {
            raw: label[:MAX_TEXT]
            for raw, label in labels.items()
            if label not in unknown and (meaning.allowed or not says_no_value(label))
        }

    def _raw_of(self, key: str, labels: dict[int, str], wanted: WantedSignal, bits: BitField) -> int | None:
        for raw, label in labels.items():
            if label == key:
                return raw
        try:
            number = int(key, 0)
        except ValueError:
            self._wrong(
                wanted,
                f"map.{key}",
                f"neither a number nor a label of {wanted.signal}{_closest(key, labels.values())}",
            )
            return None
        if not -(bits.mask + 1) // 2 <= number <= bits.mask:
            self._wrong(wanted, f"map.{key}", f"{wanted.signal} has {bits.mask.bit_length()} bits")
        return number & bits.mask

    def _highest_raw(self, signal: Any) -> int | None:
        if self._vehicle.protocol != "j1939" or signal.is_float or signal.length == 1:
            return None
        if signal.length % 8 == 0:
            return int(((_J1939_HIGHEST_TOP_BYTE + 1) << (signal.length - 8)) - 1)
        return int((1 << signal.length) - 3)

    def _wrong(self, wanted: WantedSignal, key: str, why: str) -> None:
        index = self._vehicle.signals.index(wanted)
        given = getattr(wanted, key, None)
        shown = "" if given is None or key == "map" else f" = {given!r}"
        self.problems.append(f"signals[{index}].{key}{shown}: {why}")


def _whole(number: float) -> float:
    """The number as an int where it is one, so that whole values stay whole. Raises ArithmeticError."""
    return int(number) if float(number).is_integer() else number


def _product(one: float, other: float) -> float:
    """Product of two numbers as they are written in decimal: 0.01 * 1.609344 without binary noise."""
    return float(Decimal(repr(one)) * Decimal(repr(other)))


def _decimals(scale: float, offset: float) -> int:
    """Places to round raw * scale + offset to, so that 0.01 * 5530 reads 55.3, not 55.300000000000004.

    They hold every value exactly, or to a hundredth of a step where that would take too many.
    """
    exact = max(-int(Decimal(repr(number)).normalize().as_tuple().exponent) for number in (scale, offset))
    return max(exact, 0) if exact <= _MAX_DECIMALS else max(2 - math.floor(math.log10(abs(scale))), 0)


def _main(path: Path) -> int:
    vehicle = VehicleFile.model_validate_json(sys.stdin.buffer.read())
    answer: dict[str, Any]
    try:
        answer = {"decoder": to_json(compile_decoder(vehicle, path))}
    except ConfigError as error:
        answer = {"problems": error.problems}
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
