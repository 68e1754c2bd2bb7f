"""The service's configuration: one TOML file, or the options of the command for a first try."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from agent.config.section import Section, from_file_folder
from agent.config.uplink import Broker
from agent.dispatch.outputs.output import OutputSettings

Role = Literal["dispatch", "fleet", "safety", "reader"]


class JournalStream(Section):
    """The journal from a cluster's replicated stream (RabbitMQ 4) instead of the broker's session."""

    nodes: tuple[Broker, ...] = Field(min_length=1, max_length=16)
    """AMQP addresses of the cluster's nodes, in the order in which they are tried."""
    name: str = Field("journal", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """The stream; it is made where there is none."""
    replicas: int = Field(3, ge=1, le=9)
    """Nodes that hold it, when it is made."""
    keep: str = Field("14D", pattern=r"^[1-9][0-9]{0,3}[YMDhms]$")
    """How long it keeps at least what was read, when it is made."""


class Listen(Section):
    """Where the page and the interface are served."""

    host: str = "127.0.0.1"
    port: int = Field(8480, ge=0, le=65535)
    certificate_file: Path | None = None
    key_file: Path | None = None
    client_ca_file: Path | None = None
    """Authority of client certificates; whoever shows one needs no token."""

    _paths = field_validator("certificate_file", "key_file", "client_ca_file", mode="after")(
        lambda path, info: None if path is None else from_file_folder(path, info)
    )

    @model_validator(mode="after")
    def _encrypted(self) -> Listen:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        if self.client_ca_file is not None and self.certificate_file is None:
            raise ValueError("client_ca_file needs certificate_file and key_file")
        if not self.loopback and self.certificate_file is None:
            raise ValueError(f"{self.host} is not loopback: give certificate_file and key_file (TLS)")
        return self

    @property
    def loopback(self) -> bool:
        """Whether only this computer can connect."""
        return self.host in ("127.0.0.1", "::1", "localhost")


class Token(Section):
    """Who may come in, and as what. `mdt-dispatch token NAME` makes one and prints this table."""

    name: str = Field(min_length=1, max_length=64)
    role: Role
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class CertificateRole(Section):
    """The role of a client certificate, by its common name."""

    name: str = Field(min_length=1, max_length=64)
    role: Role


class Answers(Section):
    """Who decides on a status of the crew."""

    decide: Literal["accept", "cad"] = "accept"
    """`accept`: the service, at once. `cad`: the CAD, by webhook or by POST /answers."""
    webhook: str | None = Field(None, pattern=r"^https?://")
    wait_s: float = Field(5.0, gt=0, le=120)
    """How long the CAD may take; then the default is given, and said so."""
    default: Literal["accepted", "refused"] = "accepted"


class Picture(Section):
    """When a position is no longer what it seems, and what becomes an alarm."""

    late_after_s: float = Field(75.0, gt=0)
    """Units report at least once a minute, parked or not."""
    stale_after_s: float = Field(150.0, gt=0)
    parked_stale_after_s: float = Field(1500.0, gt=0)
    """The same of a unit that says that it is parked: it reports every ten minutes, and when it moves."""
    call_unacknowledged_after_s: float = Field(60.0, gt=0)
    lost_on_run_after_s: float = Field(60.0, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Picture:
        if self.stale_after_s <= self.late_after_s:
            raise ValueError("stale_after_s must be above late_after_s")
        return self


class Retention(Section):
    """How many days each kind is kept. 0 keeps for ever."""

    raw_days: int = Field(1826, ge=0)
    """Five years of raw batches: about 10 bytes a position."""
    positions_days: int = Field(90, ge=0)
    telemetry_days: int = Field(90, ge=0)
    events_days: int = Field(0, ge=0)


class DispatchFile(Section):
    """The whole file."""

    agency: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """Only this agency's units; all that the broker lets us read when not given."""
    store: str = "mdt-dispatch.db"
    client_id: str = Field("mdt-dispatch", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """Of the durable session at the broker. Never change it: the broker queues under this name."""
    session_days: float = Field(14.0, gt=0, le=365)
    streets: Path | None = None
    """GeoJSON of streets for a map without a network."""
    districts: Path | None = None
    """GeoJSON of areas with a property `name`, for response times by district."""
    broker: Broker
    more_brokers: tuple[Broker, ...] = ()
    """Further nodes of the same cluster: the next one is tried when one is gone."""
    stream: JournalStream | None = None
    """Where the journal is read from when it is not the broker's session; see docs/cluster.md."""
    standby: bool = False
    """Wait while another service writes to the store, and take its place when it is gone."""
    listen: Listen = Listen()
    tokens: tuple[Token, ...] = ()
    certificates: tuple[CertificateRole, ...] = ()
    answers: Answers = Answers()
    picture: Picture = Picture()
    retention: Retention = Retention()
    output: tuple[OutputSettings, ...] = ()
    """Feeds to others; see docs/dispatch.md."""
    metrics: bool = False
    """Serve /metrics for Prometheus, to whoever may see the live picture."""

    _paths = field_validator("streets", "districts", mode="after")(
        lambda path, info: None if path is None else from_file_folder(path, info)
    )

    @model_validator(mode="after")
    def _guarded(self) -> DispatchFile:
        if not self.listen.loopback and not self.tokens and self.listen.client_ca_file is None:
            raise ValueError("listening beyond loopback needs [[tokens]] or listen.client_ca_file")
        return self
