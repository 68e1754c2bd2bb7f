"""Three RabbitMQ nodes on loopback with the shipped configuration. Needs root. Blocking calls.

They come from the machine's package, or from a root of their own where the distribution's is too old or none.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

CHECKOUT = Path(__file__).resolve().parent.parent.parent
SHIPPED = CHECKOUT / "config" / "broker" / "rabbitmq"
NODES = 3
READY_WITHIN_S = 240.0
STOPS_WITHIN_S = 30.0
_SERVER = Path("usr/lib/rabbitmq/bin/rabbitmq-server")
_LEAST_VERSION = 4
_MIRROR = "http://deb.debian.org/debian"


class ClusterUnavailableError(Exception):
    """No cluster can be run here; the text says what is missing."""


def find_root(*, make: bool = False) -> Path:
    """The root of a system with RabbitMQ 4: this machine's own, or one that is kept for it.

    Args:
        make: make one by debootstrap (some minutes, 400 MB) when there is none.

    Raises:
        ClusterUnavailableError: there is none, or it can not be used or made.
    """
    if os.geteuid() != 0:
        raise ClusterUnavailableError("a cluster of RabbitMQ needs root")
    kept = Path(os.environ.get("MDT_RABBITMQ_DIR", CHECKOUT / ".rig" / "rabbitmq")) / "base"
    for root in (Path("/"), kept):
        version = _version(root)
        if version is not None and version >= _LEAST_VERSION:
            return root
    if not make:
        raise ClusterUnavailableError(
            f"no RabbitMQ {_LEAST_VERSION} here, and none in {kept} (`python -m hil cluster make` makes one)"
        )
    return _make(kept)


def _version(root: Path) -> int | None:
    found = list((root / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"))
    return int(found[0].name.partition("-")[2].partition(".")[0]) if found else None


def _make(root: Path) -> Path:
    if shutil.which("debootstrap") is None:
        raise ClusterUnavailableError("debootstrap is not installed")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    command = [
        "debootstrap",
        "--variant=minbase",
        "--include=ca-certificates,rabbitmq-server,procps,iproute2",
    ]
    with (root.parent / "debootstrap.log").open("w") as log:
        done = subprocess.run(
            [*command, "trixie", str(root), _mirror()],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    if done.returncode or _version(root) is None:
        raise ClusterUnavailableError(f"debootstrap failed; see {root.parent / 'debootstrap.log'}")
    return root


def _mirror() -> str:
    """The Debian mirror that this machine's own apt uses."""
    if "MDT_RIG_MIRROR" in os.environ:
        return os.environ["MDT_RIG_MIRROR"]
    for file in (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d/debian.sources")):
        if file.exists():
            found = re.search(
                r"^(?:URIs:|deb(?: \[[^]]*\])?) *(https?://\S+)", file.read_text(), re.MULTILINE
            )
            if found:
                return found[1]
    return _MIRROR


class Node:
    """One node.

    Attributes:
        number: from 1.
        mqtt_port: MQTT over TLS.
        amqp_port: AMQP over TLS.
    """

    def __init__(self, cluster: RabbitCluster, number: int) -> None:
        self.number = number
        self.name = f"r{number}@localhost"
        self.mqtt_port, self.amqp_port, self._dist_port = _free_ports(3)
        self._cluster = cluster
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        """Where it lies, as this system sees it."""
        return self._cluster.folder / f"r{self.number}"

    @property
    def log_file(self) -> Path:
        """What it says."""
        return self.folder / "node.log"

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def configure(self, names: Sequence[str]) -> None:
        """Write its configuration: the shipped one with the ports and paths of this place."""
        inside = f"{self._cluster.inside}/r{self.number}"
        (self.folder / "home").mkdir(parents=True)
        put = {
            "mqtt.listeners.ssl.default": f"127.0.0.1:{self.mqtt_port}",
            "listeners.ssl.default": f"127.0.0.1:{self.amqp_port}",
            "ssl_options.cacertfile": f"{self._cluster.inside}/certs/ca.crt",
            "ssl_options.certfile": f"{self._cluster.inside}/certs/broker.crt",
            "ssl_options.keyfile": f"{self._cluster.inside}/certs/broker.key",
            "disk_free_limit.absolute": "50MB",
        } | {f"cluster_formation.classic_config.nodes.{at}": name for at, name in enumerate(names, 1)}
        text = with_settings((SHIPPED / "rabbitmq.conf").read_text(), put)
        (self.folder / "rabbitmq.conf").write_text(text)
        shutil.copy(SHIPPED / "enabled_plugins", self.folder / "enabled_plugins")
        cookie = self.folder / "home" / ".erlang.cookie"
        cookie.write_text(self._cluster.cookie)
        cookie.chmod(0o400)
        self.environment = {
            "HOME": f"{inside}/home",
            "LANG": "C.UTF-8",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_MNESIA_BASE": f"{inside}/data",
            "RABBITMQ_LOG_BASE": f"{inside}/log",
            "RABBITMQ_CONFIG_FILE": f"{inside}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{inside}/enabled_plugins",
            "RABBITMQ_PID_FILE": f"{inside}/pid",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._cluster.epmd_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"
            ),
            "RABBITMQ_CTL_ERL_ARGS": "+S 1:1 +sbwt none",
        }

    def start(self) -> None:
        """Start it; `wait` waits until units can connect."""
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._cluster.command([f"/{_SERVER}"], self.environment),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def wait(self, within_s: float = READY_WITHIN_S) -> None:
        """Wait until it takes connections. Raises TimeoutError with the end of its log."""
        until_s = time.monotonic() + within_s
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.mqtt_port), 1):
                return
            if not self.running or time.monotonic() > until_s:
                raise TimeoutError(
                    f"{self.name} did not start: {self.log_file.read_text(errors='replace')[-1500:]}"
                )
            _pause(0.2)

    def kill(self) -> None:
        """SIGKILL to the virtual machine, as a power cut of the computer would be. Idempotent."""
        if self._process is None:
            return
        for pid in _descendants(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(STOPS_WITHIN_S)

    def pause(self) -> None:
        """Stop the process where it is: to the others the node has fallen silent."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it in order, as an upgrade does. Idempotent."""
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            for pid in _descendants(self._process.pid):
                if _is_machine(pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)


class RabbitCluster:
    """Three nodes with rights for dispatch and some units; ends, and is gone, with its user.

    Args:
        root: see `find_root`.
        keys: folder in which `mdt-pki` makes keys.
        nodes: how many.

    Attributes:
        nodes: the nodes.
        keys: folder of keys: `keys/ca.crt`, `keys/NAME/NAME.crt` and `.key`.
    """

    def __init__(self, root: Path, keys: Path, *, nodes: int = NODES) -> None:
        self._root = root
        self.keys = keys
        self.cookie = secrets.token_hex(16)
        self.inside = f"/var/lib/rabbitmq/mdt-{secrets.token_hex(4)}"
        self.epmd_port = _free_ports(1)[0]
        self._epmd: subprocess.Popen[bytes] | None = None
        self.nodes = [Node(self, number) for number in range(1, nodes + 1)]

    @property
    def folder(self) -> Path:
        """Where it lies, as this system sees it."""
        return self._root / self.inside.lstrip("/")

    def start(self) -> None:
        """Make and start everything. Raises TimeoutError, OSError."""
        self._write()
        self._epmd = subprocess.Popen(
            self.command(
                ["/usr/bin/epmd", "-address", "127.0.0.1", "-port", str(self.epmd_port)],
                {"PATH": "/usr/bin:/bin"},
            ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            node.wait()
        until_s = time.monotonic() + READY_WITHIN_S
        while len(self.running_nodes()) < len(self.nodes):
            if time.monotonic() > until_s:
                raise TimeoutError("the nodes did not find each other")
            _pause(0.5)
        self.rights("dispatch")

    def stop(self) -> None:
        """End everything and leave nothing. Idempotent."""
        for node in self.nodes:
            node.kill()
        if self._epmd is not None:
            for pid in _descendants(self._epmd.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._epmd.wait(STOPS_WITHIN_S)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def running_nodes(self) -> list[str]:
        """Names of the nodes that are in the cluster, as one that lives sees it; none while it starts."""
        try:
            told = json.loads(self.ctl("cluster_status", "--formatter=json"))
        except OSError:
            return []
        return list(told["running_nodes"])

    def add_units(self, agency: str, units: Sequence[str]) -> None:
        """Keys and rights of units."""
        for unit in units:
            self._key("unit", unit)
        self.rights("unit", agency, *units)

    def pki(self, *words: str) -> None:
        """Run mdt-pki on the keys."""
        program = [str(CHECKOUT / ".venv" / "bin" / "mdt-pki"), "--folder", str(self.keys)]
        subprocess.run([*program, *words], check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    def _key(self, kind: str, *names: str) -> None:
        name = names[0] if kind == "unit" else kind
        if not (self.keys / name / f"{name}.crt").exists():
            self.pki(kind, *names)

    def rights(self, *words: str) -> None:
        """Run the shipped script on a node that lives."""
        node = self._living()
        shutil.copy(SHIPPED / "rights", self.folder / "rights")
        self._run(["/bin/bash", f"{self.inside}/rights", *words], node)

    def ctl(self, *words: str) -> str:
        """Run rabbitmqctl on a node that lives; what it prints."""
        node = self._living()
        return self._run(["/usr/lib/rabbitmq/bin/rabbitmqctl", "--quiet", *words], node)

    def command(self, words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
        """A command line that runs in the root as RabbitMQ's user, with a /proc, and ends with its caller."""
        told = [f"{name}={value}" for name, value in environment.items()]
        run = ["env", "-i", *told, *words]
        if self._root == Path("/"):
            return ["runuser", "-u", "rabbitmq", "--", *run]
        script = 'mount -t proc proc "$0/proc" && exec chroot --userspec=rabbitmq:rabbitmq "$0" "$@"'
        return ["unshare", "--mount", "--fork", "--kill-child", "bash", "-c", script, str(self._root), *run]

    def _living(self) -> Node:
        return next(node for node in self.nodes if node.running)

    def _run(self, words: Sequence[str], node: Node) -> str:
        environment = node.environment | {"RABBITMQCTL": "/usr/lib/rabbitmq/bin/rabbitmqctl"}
        done = subprocess.run(
            self.command(words, environment),
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
            timeout=READY_WITHIN_S,
        )
        if done.returncode:
            raise OSError(f"{words[0]}: {done.stdout[-400:]} {done.stderr[-800:]}")
        return done.stdout

    def _write(self) -> None:
        if not (self.keys / "ca.crt").exists():
            self.pki("init")
        self._key("broker", "localhost", "127.0.0.1")
        self._key("dispatch")
        certs = self.folder / "certs"
        certs.mkdir(parents=True)
        for name in ("ca.crt", "broker.crt", "broker.key"):
            shutil.copy(self.keys / "broker" / name, certs / name)
        hosts = self._root / "etc" / "hosts"
        if self._root != Path("/"):
            hosts.write_text("127.0.0.1 localhost\n")
        for node in self.nodes:
            node.configure([one.name for one in self.nodes])
        user = self._user()
        for folder, _, files in os.walk(self.folder):
            os.chown(folder, *user)
            for file in files:
                os.chown(Path(folder) / file, *user)

    def _user(self) -> tuple[int, int]:
        """RabbitMQ's user and group, as the root knows them."""
        for line in (self._root / "etc" / "passwd").read_text().splitlines():
            name, _, uid, gid, *_ = line.split(":")
            if name == "rabbitmq":
                return int(uid), int(gid)
        raise ClusterUnavailableError(f"{self._root} has no user `rabbitmq`")


def with_settings(text: str, put: Mapping[str, Any]) -> str:
    """A rabbitmq.conf with other values for some keys. Raises KeyError for one that it does not have."""
    for key, value in put.items():
        text, found = re.subn(rf"^{re.escape(key)} *=.*$", f"{key} = {value}", text, flags=re.MULTILINE)
        if not found:
            raise KeyError(key)
    return text


def _pause(seconds: float) -> None:
    """Between two looks at another process, which tells by nothing but what it does."""
    threading.Event().wait(seconds)


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def _descendants(pid: int) -> list[int]:
    """A process and all below it, the deepest last."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in task.read_text().split()]
    return found


def _is_machine(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith("beam")
    except OSError:
        return False
