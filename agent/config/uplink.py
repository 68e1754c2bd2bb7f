"""The brokers, the way to them, and what proves who we are."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from agent.config.section import Host, Section, from_file_folder


class Secret(Section):
    """Where a secret is: in a file, or in an environment variable. Never in the configuration itself."""

    file: Path | None = None
    """File that holds the secret and nothing else."""
    environment: str | None = None
    """Environment variable that holds it."""

    _paths = field_validator("file", mode="after")(
        lambda path, info: None if path is None else from_file_folder(path, info)
    )

    @model_validator(mode="after")
    def _one_place(self) -> Secret:
        if (self.file is None) == (self.environment is None):
            raise ValueError("give exactly one of `file` and `environment`")
        return self

    def read(self) -> str:
        """The secret, read now, so that a changed file is seen; a byte order mark in front is as none.

        Raises:
            OSError: it can not be read, or is no UTF-8 text: EILSEQ, and never a word of what it holds.
            KeyError: the environment has no such variable.
        """
        if self.file is not None:
            text = _text(self.file.read_bytes())
        else:
            text = _text(os.environb[os.fsencode(self.environment or "")])
        if text is None:
            # Not raised where it was found: an error of decoding holds all the bytes that it was given.
            raise OSError(errno.EILSEQ, "this is not UTF-8 text", str(self.file or self.environment))
        return text


def _text(secret: bytes) -> str | None:
    try:
        return secret.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return None


class Tls(Section):
    """TLS to the broker. The server is always verified; there is no key to switch that off."""

    ca_file: Path | None = None
    """Authority to trust; without it the system's."""
    certificate_file: Path | None = None
    """The unit's own certificate, with `key_file`."""
    key_file: Path | None = None
    """The key of that certificate."""

    _paths = field_validator("ca_file", "certificate_file", "key_file", mode="after")(
        lambda path, info: None if path is None else from_file_folder(path, info)
    )

    @model_validator(mode="after")
    def _pair(self) -> Tls:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        return self


class Broker(Section):
    """One broker, in order of preference."""

    host: Host
    """Its name or address."""
    port: int = Field(8883, ge=1, le=65535)
    """Its TCP port."""
    tls: Tls | None = None
    """TLS to the broker; the server is always verified."""
    allow_plaintext: bool = False
    """Must be said to go without TLS, so that leaving `tls` out never does it by omission."""
    username: str | None = None
    """Name by which the unit logs in."""
    password: Secret | None = None
    """Where the password is: `{ file = "..." }` or `{ environment = "..." }`."""
    redirect_hosts: tuple[Host, ...] = ()
    """Hosts that this broker may send us to (MQTT 5 "use another server"); they get its credentials. The
    other brokers of the configuration need not be listed."""

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
    """The brokers, in order of preference."""
    encoding: Literal["msgpack", "json"] = "msgpack"
    """Form of records on the wire: compact, or readable (docs/wire-format.md)."""
    confirm: Literal["puback", "dispatch"] = "puback"
    """What counts as delivered: the broker's PUBACK, or a receipt from dispatch."""
    keepalive_s: float = Field(20, ge=1, le=600)
    """MQTT keep-alive: after one and a half of it without a word the broker takes the unit for gone."""
    connect_timeout_s: float = Field(10, gt=0, le=86_400)
    """How long opening a connection may take before the next broker is tried."""
    window: int = Field(100, ge=1, le=10_000)
    """Messages in flight."""
    batch_records: int = Field(500, ge=1, le=4_096)
    """Records in one message at most."""
    batch_bytes: int = Field(32_768, ge=64, le=268_435_455)
    """Upper bound of a batch before compression; the broker's own maximum is kept as well."""
    max_packet_bytes: int | None = Field(None, ge=4096, le=268_435_455)
    """Largest packet sent, for a broker that takes no larger ones and does not say so."""
    drain_bytes_per_s: int = Field(50_000, ge=100, le=1_000_000_000)
    """Pace of the backlog; live records are not paced."""
    reconnect_min_s: float = Field(1, gt=0, le=86_400)
    """Pause before the first attempt to connect again; it doubles, with jitter."""
    reconnect_max_s: float = Field(60, gt=0, le=86_400)
    """Longest wait between two tries, once there was no connection for ten minutes; before that it is 5 s."""
    fail_over_after_s: float = Field(60, gt=0, le=86_400)
    """How long a broker that lets us in may be of no use before another is tried. One that can not be
    reached, or refuses us, is followed by the next at once."""
    return_after_s: float = Field(300, gt=0, le=86_400)
    """How long a preferred broker must have been reachable before the agent goes back to it."""
    position_expiry_s: int = Field(3600, ge=0, le=4_294_967_295)
    """MQTT 5 expiry of live state positions; 0 for none."""
    will_delay_s: int = Field(15, ge=0, le=4_294_967_295)
    """How long the broker waits before it tells that the unit is offline."""

    @model_validator(mode="after")
    def _ordered(self) -> Uplink:
        if self.reconnect_max_s < self.reconnect_min_s:
            raise ValueError("reconnect_max_s is below reconnect_min_s")
        return self
