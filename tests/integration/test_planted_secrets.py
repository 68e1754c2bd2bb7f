"""No secret gets out: planted with odd bytes in every place, looked for in everything that the agent says."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.config import Broker, Secret
from agent.uplink.link.link import Closed, LinkEvent, Opening, Received
from agent.uplink.link.paho_link import PahoLink
from hil.broker_process import BrokerOptions, Mosquitto, find_mosquitto
from hil.process.vehicle_config import to_toml

MARK = "Zk7plant"
"""What every planted secret contains; nothing else does."""
ODD = {
    "latin-1": f"{MARK}-\xfc".encode("latin-1"),
    "cut": f"{MARK}".encode() + b"\xe2\x82",
    "utf-16": f"{MARK}\xe9".encode("utf-16"),
    "lone surrogate": MARK.encode() + b"\xed\xb2\x80",
    "escape": MARK.encode() + b"\x1b]0;\xff\x07",
}
SAID_WITHIN_S = 40.0
MDT = str(Path(sys.executable).parent / "mdt")


def leaks(said: bytes) -> bool:
    """Whether the mark is in there, in any encoding that keeps its letters."""
    return MARK.encode() in said.replace(b"\0", b"") or MARK.encode().hex().encode() in said.lower()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mdt-") as path:
        yield Path(path)


def configuration(folder: Path, brokers: list[dict[str, Any]], **more: Any) -> Path:
    file = folder / "agent.toml"
    table = {
        "unit": {"agency": "boston-ems", "unit": "A1"},
        "status_socket": folder / "mdt.sock",
        "store": {"directory": folder / "store"},
        "log": {"level": "debug"},
        "reporting": {"health_interval_s": 1},
        "uplink": {
            "brokers": brokers,
            "fail_over_after_s": 0.5,
            "reconnect_min_s": 0.1,
            "reconnect_max_s": 0.2,
            "encoding": "json",
        },
    }
    file.write_text(to_toml(table | more))
    return file


@contextmanager
def agent(config: Path, folder: Path, **environment: bytes) -> Iterator[None]:
    surroundings = os.environb | {name.encode(): value for name, value in environment.items()}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [MDT, "run", "--config", str(config)], stdout=log, stderr=log, env=surroundings
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(SAID_WITHIN_S)


def mdt(*arguments: str, **environment: bytes) -> bytes:
    surroundings = os.environb | {name.encode(): value for name, value in environment.items()}
    done = subprocess.run(
        [MDT, *arguments], capture_output=True, env=surroundings, check=False, timeout=SAID_WITHIN_S
    )
    return done.stdout + done.stderr


def all_that_was_published(port: int) -> bytes:
    """Every message at the broker until the unit's own health was among them."""

    async def work() -> bytes:
        events: asyncio.Queue[LinkEvent] = asyncio.Queue()
        link, heard = PahoLink(), b""
        way = Broker(host="127.0.0.1", port=port, allow_plaintext=True)
        link.open(Opening(way, "listener", 30, 10, subscriptions=("#",)), events.put_nowait)
        try:
            async with asyncio.timeout(SAID_WITHIN_S):
                while b"/state/health " not in heard:
                    event = await events.get()
                    assert not isinstance(event, Closed)
                    if isinstance(event, Received):
                        heard += event.topic.encode() + b" " + event.payload + b"\n"
        finally:
            await link.close()
        return heard

    return asyncio.run(work())


@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
@pytest.mark.parametrize("place", ["file", "environment"])
def test_a_secret_with_odd_bytes_is_in_no_output_of_a_running_agent(place: str, folder: Path) -> None:
    odd = ODD["latin-1"]
    (folder / "password").write_bytes(odd)
    with Mosquitto(folder / "broker", BrokerOptions()) as broker:
        way: dict[str, Any] = {"port": broker.port, "allow_plaintext": True}
        password = {"file": "password"} if place == "file" else {"environment": "MDT_PLANTED"}
        refused = way | {"host": "127.0.0.1", "username": "A1", "password": password}
        config = configuration(folder, [refused, way | {"host": "localhost"}])
        with agent(config, folder, MDT_PLANTED=odd):
            published = all_that_was_published(broker.port)
            asked = [
                mdt(what, "--config", str(config), *form)
                for what in ("status", "outbox")
                for form in ((), ("--json",))
            ]
    outputs = {
        "published": published,
        "log": (folder / "log").read_bytes(),
        "asked": b"".join(asked),
        "check-config": mdt("check-config", str(config), MDT_PLANTED=odd),
        "store": b"".join(file.read_bytes() for file in (folder / "store").rglob("*") if file.is_file()),
    }
    assert b"can not be read" in outputs["log"], "the fault is told"
    assert b"not UTF-8" in outputs["check-config"]
    assert b"/state/health " in outputs["published"]
    assert {name for name, said in outputs.items() if leaks(said)} == set()


@pytest.mark.parametrize("bytes_", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("place", ["file", "environment"])
def test_reading_a_secret_that_is_no_text_tells_nothing_of_it(
    place: str, bytes_: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "file":
        (tmp_path / "password").write_bytes(bytes_)
        secret = Secret(file=tmp_path / "password")
    else:
        monkeypatch.setitem(os.environb, b"MDT_PLANTED", bytes_.replace(b"\0", b""))
        secret = Secret(environment="MDT_PLANTED")
    with pytest.raises(OSError, match="not UTF-8") as caught:
        secret.read()
    assert not leaks(everything_in(caught.value))
    assert not leaks(repr(secret).encode())


def everything_in(error: BaseException | None) -> bytes:
    """What any way of telling of an exception could show, with all that led to it."""
    import traceback

    if error is None:
        return b""
    words = repr(error) + str(error) + repr(vars(error)) + repr(error.args)
    words += "".join(traceback.TracebackException.from_exception(error, capture_locals=False).format())
    chained = everything_in(error.__cause__) + everything_in(error.__context__)
    return words.encode(errors="backslashreplace") + chained


MISTAKEN: dict[str, str] = {
    "password in the file": f'[[uplink.brokers]]\nhost = "b"\nusername = "A1"\npassword = "{MARK}"\n',
    "misspelt key": f'[[uplink.brokers]]\nhost = "b"\npasword = "{MARK}"\n',
    "in a table of its own": f'[uplink.brokers.password]\nvalue = "{MARK}"\n',
    "address of a broker": f'[[uplink.brokers]]\nhost = "mqtts://A1:{MARK}@broker"\nport = "x"\n',
    "address of a receiver": f'[[device]]\nkind = "gnss_serial"\ndevice = "tcp://A1:{MARK}@caster:2101"\n',
    "host of a receiver": f'[[device]]\nkind = "gnss_tcp"\nhost = "http://A1:{MARK}@caster"\nport = 0\n',
    "broken text": f'[[uplink.brokers]]\npassword = "{MARK}\n',
    "a byte that is no text": f'[[uplink.brokers]]\npassword = "{MARK}\udcfc"\n',
    "a table instead": f'[[uplink.brokers]]\nhost = "b"\npassword = {{ file = {{ word = "{MARK}" }} }}\n',
    "a list instead": f'uplink = ["{MARK}"]\n',
    "misspelt table": f'[[uplink.broker]]\nusername = "A1"\npassword = "{MARK}"\n',
    "outside of all tables": f'password = "{MARK}"\n',
}


@pytest.mark.parametrize("text", MISTAKEN.values(), ids=MISTAKEN.keys())
@pytest.mark.parametrize("command", ["check-config", "run"])
def test_a_secret_in_the_wrong_place_of_the_configuration_is_not_repeated(
    command: str, text: str, folder: Path
) -> None:
    file = folder / "agent.toml"
    whole = f'status_socket = "{folder}/mdt.sock"\n' if not text.startswith("uplink") else ""
    file.write_bytes((whole + text).encode(errors="surrogateescape"))
    arguments = (command, str(file)) if command == "check-config" else (command, "--config", str(file))
    said = mdt(*arguments)
    assert said
    assert not leaks(said)


@pytest.mark.parametrize(
    "url",
    [
        f"mqtt://A1:{MARK}@127.0.0.1:1",
        f"mqtt://A1:{MARK}@127.0.0.1:99999",
        f"mqtt://A1:{MARK}@[::1",
        f"http://A1:{MARK}@127.0.0.1",
        f"A1:{MARK}@127.0.0.1",
        f"mqtt://A1:{MARK}@",
        f"mqtt://A1:{MARK}@127.0.0.1/path?query",
        f"mqtt://{MARK}:@127.0.0.1:x",
    ],
)
def test_an_address_with_a_password_is_refused_without_repeating_it(url: str) -> None:
    said = mdt("watch", "--broker", url)
    assert b"mdt watch:" in said
    assert not leaks(said)


@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
def test_watch_tells_of_a_password_that_is_no_text_without_its_bytes(folder: Path) -> None:
    secret = folder / "password"
    secret.write_bytes(ODD["latin-1"])
    with Mosquitto(folder / "broker", BrokerOptions()) as broker:
        address = f"mqtt://A1@127.0.0.1:{broker.port}"
        watching = subprocess.Popen(
            [MDT, "watch", "--broker", address, "--password-file", str(secret)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert watching.stdout is not None
        try:
            said = watching.stdout.readline()
        finally:
            watching.terminate()
            said += watching.communicate()[0]
    assert b"password can not be read" in said
    assert not leaks(said)
