"""A real broker as a child process: mosquitto where it is installed, else the embedded one."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

READY_WITHIN_S = 15.0
STOPS_WITHIN_S = 10.0
_PORT_ATTEMPTS = 5


class BrokerUnavailableError(Exception):
    """No broker of the wanted kind can be run here; the text says what is missing."""


class BrokerStartError(Exception):
    """The broker was started but did not become ready; the text ends with what it logged."""


@dataclass(frozen=True, slots=True)
class BrokerTls:
    """The broker's side of TLS.

    Attributes:
        certificate_file: PEM of the broker's certificate.
        key_file: PEM of its key.
        client_ca_file: when given, a client must show a certificate of this authority.
    """

    certificate_file: Path
    key_file: Path
    client_ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """What a rig wants of its broker. The defaults are what the project ships for real brokers.

    Attributes:
        persistence: keep retained messages and queues in the data folder.
        save_on_changes: write them before a PUBACK is sent; without it a kill loses acknowledged messages.
        max_packet_bytes: told to MQTT 5 clients in CONNACK; None for no limit.
        receive_maximum: QoS 1 messages the broker takes in flight; None for its default.
        users: name to password; empty for anonymous access.
        access_rules: lines of a mosquitto ACL file; empty for no rules.
        tls: serve TLS only.
        extra_lines: further lines of mosquitto.conf.
    """

    persistence: bool = True
    save_on_changes: bool = True
    max_packet_bytes: int | None = None
    receive_maximum: int | None = None
    users: dict[str, str] = field(default_factory=dict)
    access_rules: Sequence[str] = ()
    tls: BrokerTls | None = None
    extra_lines: Sequence[str] = ()


class Broker(Protocol):
    """A broker on a loopback port that stays the same over restarts. Blocking calls, not thread-safe."""

    kind: str
    """"mosquitto" or "embedded"."""
    mqtt_versions: tuple[int, ...]
    host: str

    @property
    def port(self) -> int:
        """The port, known once started."""
        ...

    @property
    def running(self) -> bool:
        """True while the process lives."""
        ...

    def start(self) -> None:
        """Start it and wait until it accepts connections. Raises BrokerStartError."""
        ...

    def stop(self) -> None:
        """Ask it to end, and wait; it saves what it keeps. Idempotent."""
        ...

    def kill(self) -> None:
        """End it at once, as a crash would. Idempotent."""
        ...

    def restart(self) -> None:
        """Stop and start on the same port and data."""
        ...

    def __enter__(self) -> Self:
        """Start."""
        ...

    def __exit__(self, *_: object) -> None:
        """Stop."""
        ...


def open_broker(directory: Path, options: BrokerOptions | None = None) -> Broker:
    """The best broker this machine has, not started yet. Raises BrokerUnavailableError."""
    if find_mosquitto() is not None:
        return Mosquitto(directory, options or BrokerOptions())
    return EmbeddedBroker(directory, options or BrokerOptions())


def find_mosquitto() -> str | None:
    """Path of the mosquitto program, None where it is not installed."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


class _BrokerProcess:
    """What both brokers share: a child, a loopback port, a log file."""

    kind = ""
    mqtt_versions: tuple[int, ...] = ()

    def __init__(self, directory: Path, options: BrokerOptions) -> None:
        self.host = "127.0.0.1"
        self.log_file = directory / "broker.log"
        self._directory = directory
        self._options = options
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def reconfigure(self, options: BrokerOptions) -> None:
        """Hold to these options from the next start on."""
        self._options = options

    @property
    def port(self) -> int:
        """The port, known once started."""
        return self._port

    @property
    def pid(self) -> int | None:
        """Process id while running."""
        return self._process.pid if self._process is not None else None

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it accepts connections. Raises BrokerStartError."""
        if self.running:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        keep_port = self._port != 0
        for attempt in range(_PORT_ATTEMPTS):
            if not keep_port:
                self._port = _free_port()
            with self.log_file.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment()
                )
            if self._wait_ready():
                return
            self.kill()
            # Another process may have taken the port between choosing and binding it.
            if keep_port or attempt == _PORT_ATTEMPTS - 1:
                break
        raise BrokerStartError(f"{self.kind} did not start: {self._log_tail()}")

    def stop(self) -> None:
        """Ask it to end, and wait; it saves what it keeps. Idempotent."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End it at once, as a crash would. Idempotent."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Stop and start on the same port and data."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _wait_ready(self) -> bool:
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline and self.running:
            try:
                socket.create_connection((self.host, self._port), timeout=1.0).close()
            except OSError:
                _pause()
            else:
                return self.running
        return False

    def _log_tail(self) -> str:
        try:
            return self.log_file.read_text(encoding="utf-8", errors="replace")[-500:].strip()
        except OSError:
            return "(no log)"


class Mosquitto(_BrokerProcess):
    """Eclipse mosquitto, MQTT 5 and 3.1.1."""

    kind = "mosquitto"
    mqtt_versions: tuple[int, ...] = (5, 4)

    def _command(self) -> list[str]:
        program = find_mosquitto()
        if program is None:
            raise BrokerUnavailableError("mosquitto is not installed (apt-get install mosquitto)")
        configuration = self._directory / "mosquitto.conf"
        configuration.write_text("\n".join(self._lines()) + "\n", encoding="utf-8")
        return [program, "-c", str(configuration)]

    def _lines(self) -> list[str]:
        o = self._options
        lines = [
            f"listener {self._port} {self.host}",
            "set_tcp_nodelay true",
            "max_queued_messages 0",
            "max_queued_bytes 0",
        ]
        if os.geteuid() == 0:
            # Started by root it would change to a user that may not write to the data folder.
            lines.append("user root")
        if o.persistence:
            lines += ["persistence true", f"persistence_location {self._directory}/"]
            if o.save_on_changes:
                lines += ["autosave_interval 1", "autosave_on_changes true"]
        if o.max_packet_bytes is not None:
            lines.append(f"max_packet_size {o.max_packet_bytes}")
        if o.receive_maximum is not None:
            lines.append(f"max_inflight_messages {o.receive_maximum}")
        lines.append(f"allow_anonymous {'false' if o.users else 'true'}")
        if o.users:
            lines.append(f"password_file {self._write_private('passwords', _password_lines(o.users))}")
        if o.access_rules:
            lines.append(f"acl_file {self._write_private('access', o.access_rules)}")
        if o.tls is not None:
            lines += [f"certfile {o.tls.certificate_file}", f"keyfile {o.tls.key_file}"]
            if o.tls.client_ca_file is not None:
                lines += [f"cafile {o.tls.client_ca_file}", "require_certificate true"]
        return [*lines, *o.extra_lines]

    def _write_private(self, name: str, lines: Sequence[str]) -> Path:
        path = self._directory / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        path.chmod(0o600)
        return path


class PahoTestBroker(_BrokerProcess):
    """The Eclipse Paho interoperability broker (paho.mqtt.testing): strict, with tiny limits. Never shipped.

    It is found where the environment variable MDT_PAHO_TESTING names its `interoperability` folder.
    """

    kind = "paho.mqtt.testing"
    mqtt_versions: tuple[int, ...] = (5, 4)

    def _command(self) -> list[str]:
        folder = os.environ.get("MDT_PAHO_TESTING", "")
        program = Path(folder) / "startbroker.py"
        if not folder or not program.is_file():
            why = "MDT_PAHO_TESTING names no interoperability folder of paho.mqtt.testing"
            raise BrokerUnavailableError(why)
        configuration = self._directory / "paho.conf"
        lines = [f"listener {self._port} {self.host} mqtt"]
        if self._options.max_packet_bytes is not None:
            lines.insert(0, f"maximum_packet_size {self._options.max_packet_bytes}")
        if self._options.receive_maximum is not None:
            lines.insert(0, f"receive_maximum {self._options.receive_maximum}")
        configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [sys.executable, str(program), "-c", str(configuration)]


class EmbeddedBroker(_BrokerProcess):
    """The embedded broker (MQTT 3.1.1, nothing kept over a restart), where mosquitto is not installed."""

    kind = "embedded"
    mqtt_versions: tuple[int, ...] = (4,)

    def _command(self) -> list[str]:
        if importlib.util.find_spec("amqtt") is None:
            raise BrokerUnavailableError("neither mosquitto nor the amqtt package is installed")
        o = self._options
        if o.tls is not None or o.users or o.access_rules or o.max_packet_bytes or o.receive_maximum:
            raise BrokerUnavailableError("this needs mosquitto (apt-get install mosquitto)")
        return [sys.executable, "-m", "hil.embedded_broker", "--port", str(self._port)]


def _environment() -> dict[str, str]:
    """The caller's, with the checkout on Python's path: the harness is not an installed package."""
    checkout = str(Path(__file__).resolve().parent.parent)
    path = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": checkout if not path else f"{checkout}{os.pathsep}{path}"}


def _pause() -> None:
    """Wait between two looks at a port."""
    threading.Event().wait(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _password_lines(users: dict[str, str]) -> list[str]:
    """Lines of a mosquitto password file: PBKDF2 with SHA-512, as mosquitto_passwd writes them."""
    rounds = 101
    lines = []
    for name, password in users.items():
        salt = os.urandom(12)
        digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
        lines.append(
            f"{name}:$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"
        )
    return lines
