"""The vehicle file: which signals of a bus are reported under which name, and what they are found by.

A signal is found by its message and name in a DBC, by an SPN of J1939, by a parameter group with the bits in
it, or by the mode and PID of an OBD-II answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from agent.config import Section, SignalName, from_file_folder, parse_toml, read_toml, validate
from agent.domain.record import SignalValue
from agent.sources.can import vss
from agent.sources.can.j1939_catalogue import SPNS
from agent.sources.can.obd_catalogue import PIDS

RawValue = Annotated[int, Field(ge=-(2**63), le=2**64 - 1)]
"""What the bits of a signal can say."""


class WantedSignal(Section):
    """One signal of the bus that is reported."""

    name: SignalName
    message: str | None = None
    """Name of the message in the DBC."""
    signal: str | None = None
    """Name of the signal in the DBC."""
    spn: int | None = Field(None, ge=0, le=0x7FFFF)
    """J1939: the suspect parameter number; its place and unit are known."""
    pgn: int | None = Field(None, ge=0, le=0x3FFFF)
    """J1939: the parameter group, with `start_bit` and `bits`, for what is not known by its SPN."""
    start_bit: int | None = Field(None, ge=0, lt=512)
    """Lowest bit of the value in the group, from 0."""
    bits: int | None = Field(None, ge=1, le=64)
    """Length of the value in the group."""
    pid: str | None = Field(None, pattern=r"^[0-9A-F]{2}-[0-9A-F]{2}$")
    """OBD-II: mode and PID in hexadecimal digits, such as "01-0D"."""
    answer_id: int | None = Field(None, ge=0, le=0x1FFFFFFF)
    """OBD-II: identifier that the answer comes with; 0x7E8, the engine's, by default."""
    unit: str | None = None
    """VSS unit. May be left out for the names that the agent knows."""
    from_unit: str | None = None
    """Unit of the DBC's value, where the DBC has none or a wrong one."""
    scale: float | None = Field(None, allow_inf_nan=False)
    """Explicit conversion instead of a derived one: value = DBC value * scale + offset."""
    offset: float | None = Field(None, allow_inf_nan=False)
    map: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """DBC label or raw number to value. Without a unit, a raw value outside the map is "no value"."""
    not_available: tuple[RawValue, ...] = ()
    """Raw values that mean "not available"; all-ones is understood by itself on a J1939 bus."""
    source_address: int | None = Field(None, ge=0, le=253)
    """J1939: only from this control unit. The same for all signals of a message."""
    deadband: float = Field(0, ge=0, allow_inf_nan=False)
    """Smallest change that is reported, in `unit`; 0 reports any. Becoming exactly 0 is always reported."""
    min_interval_s: float = Field(0, ge=0, le=60)
    """Changes closer together than this are told once it has passed."""
    steps: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Lowest value of a step, in the source's unit, to what it is called: { 0 = "OFF", 6 = "ON" }."""
    plausible: tuple[float, float] | None = None
    """[lowest, highest] in `unit`; what lies outside can not be true and is "no value"."""
    on_change: bool | None = None
    """True: each change makes a record with its own time. Without it that holds for switches and words."""
    stale_after_s: float | None = Field(None, gt=0)
    """How long a value may go unheard before it is unknown; without it the reporting policy's own age."""

    @model_validator(mode="after")
    def _consistent(self) -> WantedSignal:
        self._one_source()
        known = vss.SIGNALS.get(self.name)
        if known is None and (meant := vss.near_miss(self.name)) is not None:
            raise ValueError(f"name = {self.name!r}: no such signal; did you mean {meant!r}?")
        if known is not None:
            if self.unit is not None and self.unit != known.unit:
                raise ValueError(f"unit = {self.unit!r}: VSS gives {self.name} in {known.unit or 'no unit'}")
            for table, values in (("map", self.map), ("steps", self.steps)):
                for key, value in values.items():
                    _check_mapped(self.name, known, f"{table}.{key}", value)
        if self.scale == 0:
            raise ValueError("scale = 0: every value would be the same")
        if self.plausible is not None and not self.plausible[0] < self.plausible[1]:
            raise ValueError(f"plausible = {list(self.plausible)}: the lowest must stand first")
        return self

    def _one_source(self) -> None:
        given = {
            "message and signal": self.message is not None or self.signal is not None,
            "spn": self.spn is not None,
            "pgn, start_bit and bits": self.pgn is not None and self.spn is None,
            "pid": self.pid is not None,
        }
        named = [source for source, is_given in given.items() if is_given]
        if len(named) != 1:
            raise ValueError(
                f"one source is needed: {', '.join(given)}; given: {' and '.join(named) or 'none'}"
            )
        if given["message and signal"] and (self.message is None or self.signal is None):
            raise ValueError(f"{'signal' if self.signal is None else 'message'}: missing")
        if given["pgn, start_bit and bits"] and (self.start_bit is None or self.bits is None):
            raise ValueError("pgn: start_bit and bits are needed with it")
        if self.spn is not None and self.spn not in SPNS and self.pgn is None:
            raise ValueError(
                f"spn = {self.spn}: its place is not known; give pgn, start_bit and bits instead"
            )
        if self.spn is not None and self.pgn is not None and SPNS[self.spn].pgn != self.pgn:
            raise ValueError(f"pgn = {self.pgn}: SPN {self.spn} is in group {SPNS[self.spn].pgn}")
        if self.pid is not None and self.pid not in PIDS:
            raise ValueError(f"pid = {self.pid!r}: not known; there are {', '.join(PIDS)}")
        for key in self.steps:
            try:
                float(key)
            except ValueError as error:
                raise ValueError(f"steps.{key}: not a number") from error

    @property
    def group(self) -> str | None:
        """What the signal shares a message with: the DBC's name, or the J1939 group; None for OBD-II."""
        if self.message is not None:
            return self.message
        pgn = SPNS[self.spn].pgn if self.spn is not None else self.pgn
        return None if pgn is None else f"group {pgn}"

    @property
    def meaning(self) -> vss.Meaning:
        """What the value is: from VSS where the name is known, else from this file."""
        known = vss.SIGNALS.get(self.name)
        if known is not None:
            return known
        if self.unit is not None:
            return vss.Meaning(vss.ValueType.NUMBER, self.unit)
        values = [*self.map.values(), *self.steps.values()]
        if values and all(isinstance(value, bool) for value in values):
            return vss.Meaning(vss.ValueType.BOOLEAN)
        if values and all(isinstance(value, str) for value in values):
            return vss.Meaning(vss.ValueType.TEXT)
        return vss.Meaning(vss.ValueType.NUMBER)


class VehicleFile(Section):
    """The whole file."""

    description: str = ""
    dbc: Path | None = None
    """Description of the bus; a relative path is taken from the folder of the vehicle file."""
    protocol: Literal["can", "j1939"] = "can"
    """j1939: messages are found by their parameter group, and all-ones values mean "not available"."""
    signals: tuple[WantedSignal, ...] = Field(min_length=1)

    _paths = field_validator("dbc", mode="after")(from_file_folder)

    @model_validator(mode="after")
    def _distinct(self) -> VehicleFile:
        seen: set[str] = set()
        addresses: dict[str, int | None] = {}
        for index, wanted in enumerate(self.signals):
            if wanted.name in seen:
                raise ValueError(f"signals[{index}].name = {wanted.name!r}: given twice")
            seen.add(wanted.name)
            if wanted.message is not None and self.dbc is None:
                raise ValueError(f"dbc: missing, and signals[{index}].message names one of its messages")
            for key in ("spn", "pgn", "source_address"):
                if getattr(wanted, key) is not None and self.protocol != "j1939":
                    raise ValueError(f'signals[{index}].{key}: only with protocol = "j1939"')
            group = wanted.group
            if group is None:
                continue
            if addresses.setdefault(group, wanted.source_address) != wanted.source_address:
                raise ValueError(
                    f"signals[{index}].source_address = {wanted.source_address!r}: "
                    f"another signal of {group} has {addresses[group]!r}"
                )
        return self

    def of_message(self) -> dict[str, list[WantedSignal]]:
        """The wanted signals of the DBC by the name of their message, in the order of the file."""
        grouped: dict[str, list[WantedSignal]] = {}
        for wanted in self.signals:
            if wanted.message is not None:
                grouped.setdefault(wanted.message, []).append(wanted)
        return grouped

    def on_change(self) -> Iterator[tuple[str, bool]]:
        """(name, whether each change makes a record) of the signals for which the file tells."""
        for wanted in self.signals:
            if wanted.on_change is not None:
                yield wanted.name, wanted.on_change

    def stale_after_s(self) -> Iterator[tuple[str, float]]:
        """(name, seconds) of the signals that have an age of their own."""
        for wanted in self.signals:
            if wanted.stale_after_s is not None:
                yield wanted.name, wanted.stale_after_s


def load_vehicle_file(path: Path, *, dbc: Path | None = None) -> VehicleFile:
    """Read and validate a vehicle file; `dbc` takes the place of the file's own.

    Raises:
        ConfigError: with every problem at once. The DBC itself is read by `compile_decoder`.
    """
    text = read_toml(path)
    table = parse_toml(text, path)
    if dbc is not None:
        table["dbc"] = str(dbc.absolute())
    return validate(VehicleFile, table, path, text=text)


def _check_mapped(name: str, known: vss.Meaning, key: str, value: SignalValue) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    right = {
        vss.ValueType.BOOLEAN: isinstance(value, bool),
        vss.ValueType.TEXT: isinstance(value, str),
        vss.ValueType.NUMBER: is_number,
    }[known.type]
    if not right:
        raise ValueError(f"{key} = {value!r}: {name} is a {known.type.value}")
    if known.allowed and value not in known.allowed:
        raise ValueError(f"{key} = {value!r}: {name} is one of {', '.join(known.allowed)}")
