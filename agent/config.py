"""The configuration file: frozen models, no unknown keys, units in the names."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from agent.domain.status import UnitStatus

TopicLevel = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$", max_length=64)]
"""One level of an MQTT topic: no slash, no wildcard, no space."""


class ConfigError(Exception):
    """The configuration can not be used.

    Attributes:
        problems: one line each: file, key, value and what is wrong.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Section(BaseModel):
    """A table of the file. Relative paths are taken from the folder of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _from_file_folder(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder")
    return path if folder is None or path.is_absolute() else Path(folder) / path


class Unit(Section):
    """Who this vehicle is."""

    agency: TopicLevel
    unit: TopicLevel


class Store(Section):
    """The outbox on the data disk."""

    directory: Path = Path("/var/lib/mdt")
    budget_mib: int = Field(256, ge=1)
    """What undelivered records may take before old trail is thinned."""
    replay_budget_mib: int = Field(64, ge=0)
    """What delivered records may take while they are kept for a reader that asks again."""
    replay_days: float = Field(7, ge=0)
    group_commit_s: float = Field(10, gt=0, le=300)
    """How much trail a power cut may take; presses are always committed at once."""
    synchronous: Literal["FULL", "NORMAL", "OFF"] = "FULL"
    """Anything but FULL loses records that were called stored; exists to prove that the rigs notice."""

    _paths = field_validator("directory", mode="after")(_from_file_folder)


class Gnss(Section):
    """The receiver: a serial device or `socket://host:port` of an in-vehicle router."""

    device: str
    baud: int = Field(9600, gt=0)
    silent_after_s: float = Field(5, gt=0)


class Reporting(Section):
    """When a fix becomes a position record."""

    moving_interval_s: float = Field(1, gt=0)
    stationary_interval_s: float = Field(10, gt=0)
    moving_above_mps: float = Field(0.7, ge=0)
    telemetry_interval_s: float = Field(5, gt=0)
    health_interval_s: float = Field(60, gt=0)


class Can(Section):
    """One vehicle bus, listened to and never written to."""

    name: TopicLevel = "can0"
    interface: Literal["socketcan", "slcan"] = "socketcan"
    channel: str
    bitrate: int = Field(500_000, gt=0)
    vehicle: Path
    """The vehicle file: which DBC, which signals."""
    settle_s: float = Field(0, ge=0, le=10)
    """How long an slcan adapter needs after its port is opened."""
    silent_after_s: float = Field(5, gt=0)

    _paths = field_validator("vehicle", mode="after")(_from_file_folder)


class ButtonBox(Section):
    """A serial button box with lamps."""

    device: str
    baud: int = Field(115_200, gt=0)
    silent_after_s: float = Field(5, gt=0)
    """The box says hello every second; silence for longer means that it is gone."""


class ButtonGpio(Section):
    """Buttons, and lamps if any, on lines of a GPIO chip."""

    chip: str = "/dev/gpiochip0"
    lines: dict[str, int] = Field(min_length=1)
    """Key name to line offset."""
    lamp_lines: dict[str, int] = {}
    """Key name to the line of its lamp: dark = off, blinking = not stored, lit = stored or delivered."""
    active_low: bool = True
    bias: Literal["pull_up", "pull_down", "disabled", "as_is"] = "pull_up"
    debounce_ms: int = Field(20, ge=0, le=500)

    @model_validator(mode="after")
    def _one_purpose_a_line(self) -> ButtonGpio:
        offsets = [*self.lines.values(), *self.lamp_lines.values()]
        if len(set(offsets)) != len(offsets):
            raise ValueError("a line offset is used twice")
        if strangers := set(self.lamp_lines) - set(self.lines):
            raise ValueError(f"lamp_lines without a button: {', '.join(sorted(strangers))}")
        return self


class Buttons(Section):
    """Crew buttons: what each key means, and where the keys are."""

    keys: dict[str, str] = {status.value: status.value for status in UnitStatus} | {"emergency": "emergency"}
    """Key name to unit status token, or to "emergency"."""
    stuck_after_s: float = Field(30, gt=0)
    box: ButtonBox | None = None
    gpio: ButtonGpio | None = None

    @field_validator("keys")
    @classmethod
    def _known_tokens(cls, keys: dict[str, str]) -> dict[str, str]:
        known = {status.value for status in UnitStatus} | {"emergency"}
        for key, token in keys.items():
            if token not in known:
                raise ValueError(
                    f"{key} = {token!r}: not a unit status; known are {', '.join(sorted(known))}"
                )
        return keys

    @model_validator(mode="after")
    def _keys_have_a_meaning(self) -> Buttons:
        if self.gpio is not None and (strangers := set(self.gpio.lines) - set(self.keys)):
            raise ValueError(f"gpio.lines without a meaning in keys: {', '.join(sorted(strangers))}")
        return self


class Secret(Section):
    """Where a secret is: in a file, or in an environment variable. Never in the configuration itself."""

    file: Path | None = None
    environment: str | None = None

    _paths = field_validator("file", mode="after")(
        lambda path, info: None if path is None else _from_file_folder(path, info)
    )

    @model_validator(mode="after")
    def _one_place(self) -> Secret:
        if (self.file is None) == (self.environment is None):
            raise ValueError("give exactly one of `file` and `environment`")
        return self

    def read(self) -> str:
        """The secret, read now, so that a changed file is seen. Raises OSError or KeyError."""
        if self.file is not None:
            return self.file.read_text(encoding="utf-8").strip()
        return os.environ[self.environment or ""]


class Tls(Section):
    """TLS to the broker. The server is always verified; there is no key to switch that off."""

    ca_file: Path | None = None
    """Authority to trust; without it the system's."""
    certificate_file: Path | None = None
    key_file: Path | None = None

    _paths = field_validator("ca_file", "certificate_file", "key_file", mode="after")(
        lambda path, info: None if path is None else _from_file_folder(path, info)
    )

    @model_validator(mode="after")
    def _pair(self) -> Tls:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        return self


class Broker(Section):
    """One broker, in order of preference."""

    host: str = Field(min_length=1)
    port: int = Field(8883, ge=1, le=65535)
    tls: Tls | None = None
    allow_plaintext: bool = False
    """Must be said to go without TLS, so that leaving `tls` out never does it by omission."""
    username: str | None = None
    password: Secret | None = None

    @model_validator(mode="after")
    def _encrypted(self) -> Broker:
        if self.tls is None and not self.allow_plaintext:
            raise ValueError("without a [tls] table, `allow_plaintext = true` must be said")
        if self.tls is not None and self.allow_plaintext:
            raise ValueError("`allow_plaintext` contradicts the [tls] table")
        if self.password is not None and self.username is None:
            raise ValueError("`password` needs `username`")
        return self


class Uplink(Section):
    """The way to dispatch."""

    brokers: tuple[Broker, ...] = Field(min_length=1)
    encoding: Literal["msgpack", "json"] = "msgpack"
    confirm: Literal["puback", "dispatch"] = "puback"
    """What counts as delivered: the broker's PUBACK, or a receipt from dispatch."""
    keepalive_s: float = Field(30, ge=1, le=600)
    connect_timeout_s: float = Field(10, gt=0)
    window: int = Field(100, ge=1, le=10_000)
    """Messages in flight."""
    batch_records: int = Field(500, ge=1, le=10_000)
    batch_bytes: int = Field(32_768, ge=64)
    """Upper bound of a batch before compression; the broker's own maximum is kept as well."""
    max_packet_bytes: int | None = Field(None, ge=128)
    """Largest packet sent, for a broker that takes no larger ones and does not say so."""
    drain_bytes_per_s: int = Field(50_000, ge=100)
    """Pace of the backlog; live records are not paced."""
    reconnect_min_s: float = Field(1, gt=0)
    reconnect_max_s: float = Field(60, gt=0)
    fail_over_after_s: float = Field(60, gt=0)
    return_after_s: float = Field(300, gt=0)
    """How long a preferred broker must have been reachable before the agent goes back to it."""
    position_expiry_s: int = Field(3600, ge=0)
    """MQTT 5 expiry of live state positions; 0 for none."""
    will_delay_s: int = Field(15, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Uplink:
        if self.reconnect_max_s < self.reconnect_min_s:
            raise ValueError("reconnect_max_s is below reconnect_min_s")
        return self


class Recorder(Section):
    """The black box: everything the drivers read, in a rotating set of files."""

    directory: Path
    budget_mib: int = Field(512, ge=1)
    file_mib: int = Field(32, ge=1)

    _paths = field_validator("directory", mode="after")(_from_file_folder)


class Supervision(Section):
    """How failing parts are started again, and how the agent stops."""

    backoff_min_s: float = Field(0.5, gt=0)
    backoff_max_s: float = Field(5, gt=0)
    """A crew that plugs the button box in again should not wait for half a minute."""
    restart_budget: int = Field(5, ge=0)
    """Unexpected failures of one part within `restart_window_s` before the agent drains and exits."""
    restart_window_s: float = Field(300, gt=0)
    progress_timeout_s: float = Field(20, ge=20)
    """A part that reports no progress for this long starves the watchdog."""
    stop_sources_s: float = Field(2, gt=0)
    stop_outbox_s: float = Field(5, gt=0)
    stop_uplink_s: float = Field(5, gt=0)


class Log(Section):
    """The log: one structured line an event."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section):
    """The whole file."""

    unit: Unit
    store: Store = Store()
    gnss: Gnss | None = None
    can: tuple[Can, ...] = ()
    buttons: Buttons = Buttons()
    reporting: Reporting = Reporting()
    uplink: Uplink
    supervision: Supervision = Supervision()
    recorder: Recorder | None = None
    log: Log = Log()
    status_socket: Path = Path("/run/mdt/mdt.sock")

    _paths = field_validator("status_socket", mode="after")(_from_file_folder)

    @field_validator("can")
    @classmethod
    def _distinct_buses(cls, can: tuple[Can, ...]) -> tuple[Can, ...]:
        names = [bus.name for bus in can]
        if len(set(names)) != len(names):
            raise ValueError(f"each bus needs a name of its own: {', '.join(names)}")
        return can


def load(path: Path) -> Config:
    """Read and validate a configuration file. Raises ConfigError with every problem at once."""
    return load_as(Config, path)


_PLAIN = {
    "string_pattern_mismatch": "letters, digits, dot, hyphen and underscore only",
    "model_type": 'a table is expected here, e.g. { file = "..." }',
    "tuple_type": "a list is expected here",
    "dict_type": "a table is expected here",
}
"""What pydantic says in its own terms, said in the file's."""

Model = TypeVar("Model", bound=Section)


def load_as(model: type[Model], path: Path) -> Model:
    """Read a TOML file of another form and validate it. Raises ConfigError with every problem at once."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: can not be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from error
    return validate(model, table, path)


def validate(model: type[Model], table: dict[str, Any], path: Path) -> Model:
    """Validate one file's table against `model`. Raises ConfigError naming `path`, each key and its value."""
    try:
        return model.model_validate(table, context={"folder": path.resolve().parent})
    except ValidationError as error:
        items = error.errors(include_url=False)
        # A list with a bad member is reported a second time as too short; the member's own line says enough.
        items = [item for item in items if not (item["type"] == "too_short" and item["input"])]
        raise ConfigError([_problem(path, item) for item in items]) from error


def _problem(path: Path, item: Any) -> str:
    where = ""
    for part in item["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}" if where else str(part)
    message = _PLAIN.get(item["type"], item["msg"].removeprefix("Value error, "))
    if where.startswith("uplink.brokers") and not isinstance(item["input"], int | float):
        # A secret may stand here under any name, also a misspelt one.
        message = "no such key" if item["type"] == "extra_forbidden" else message
        return f"{path}: {where}: {message} (value not shown)"
    match item["type"]:
        case "missing":
            return f"{path}: {where}: missing"
        case "extra_forbidden":
            return f"{path}: {where} = {item['input']!r}: no such key"
        case _ if isinstance(item["input"], dict | BaseModel):
            return f"{path}: {where or 'file'}: {message}"
        case _:
            return f"{path}: {where} = {item['input']!r}: {message}"
