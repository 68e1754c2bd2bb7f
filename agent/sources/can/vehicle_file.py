"""The vehicle file: which DBC describes the bus, and which of its signals are reported under which name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from agent.config import Section, SignalName, from_file_folder, parse_toml, read_toml, validate
from agent.domain.record import SignalValue
from agent.sources.can import vss

RawValue = Annotated[int, Field(ge=-(2**63), le=2**64 - 1)]
"""What the bits of a signal can say."""


class WantedSignal(Section):
    """One signal of the bus that is reported."""

    message: str
    """Name of the message in the DBC."""
    signal: str
    """Name of the signal in the DBC."""
    name: SignalName
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
    plausible: tuple[float, float] | None = None
    """[lowest, highest] in `unit`; what lies outside can not be true and is "no value"."""
    on_change: bool | None = None
    """True: each change is told with its own time. Without it that holds for switches and words."""
    stale_after_s: float | None = Field(None, gt=0)
    """How long a value may go unheard before it is unknown; without it the reporting policy's own age."""

    @model_validator(mode="after")
    def _consistent(self) -> WantedSignal:
        known = vss.SIGNALS.get(self.name)
        if known is not None:
            if self.unit is not None and self.unit != known.unit:
                raise ValueError(f"unit = {self.unit!r}: VSS gives {self.name} in {known.unit or 'no unit'}")
            for key, value in self.map.items():
                _check_mapped(self.name, known, key, value)
        if self.scale == 0:
            raise ValueError("scale = 0: every value would be the same")
        if self.plausible is not None and not self.plausible[0] < self.plausible[1]:
            raise ValueError(f"plausible = {list(self.plausible)}: the lowest must stand first")
        return self

    @property
    def meaning(self) -> vss.Meaning:
        """What the value is: from VSS where the name is known, else from this file."""
        known = vss.SIGNALS.get(self.name)
        if known is not None:
            return known
        if self.unit is not None:
            return vss.Meaning(vss.ValueType.NUMBER, self.unit)
        values = list(self.map.values())
        if values and all(isinstance(value, bool) for value in values):
            return vss.Meaning(vss.ValueType.BOOLEAN)
        if values and all(isinstance(value, str) for value in values):
            return vss.Meaning(vss.ValueType.TEXT)
        return vss.Meaning(vss.ValueType.NUMBER)


class VehicleFile(Section):
    """The whole file."""

    description: str = ""
    dbc: Path
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
            if wanted.source_address is not None and self.protocol != "j1939":
                raise ValueError(f'signals[{index}].source_address: only with protocol = "j1939"')
            if addresses.setdefault(wanted.message, wanted.source_address) != wanted.source_address:
                raise ValueError(
                    f"signals[{index}].source_address = {wanted.source_address!r}: "
                    f"another signal of {wanted.message} has {addresses[wanted.message]!r}"
                )
        return self

    def of_message(self) -> dict[str, list[WantedSignal]]:
        """The wanted signals by the name of their message, in the order of the file."""
        grouped: dict[str, list[WantedSignal]] = {}
        for wanted in self.signals:
            grouped.setdefault(wanted.message, []).append(wanted)
        return grouped

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
        raise ValueError(f"map.{key} = {value!r}: {name} is a {known.type.value}")
    if known.allowed and value not in known.allowed:
        raise ValueError(f"map.{key} = {value!r}: {name} is one of {', '.join(known.allowed)}")
