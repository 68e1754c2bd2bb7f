"""`mdt doctor` beside a vehicle on simulated devices: fitted right, and with one mistake at a time."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import random
import sys
import tempfile
import termios
import threading
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.domain.status import UnitStatus
from firmware_shims.simulated.button_box import PtyButtonBox
from firmware_shims.simulated.slcan_adapter import PtySlcanAdapter
from hil.broker_process import BrokerOptions, Mosquitto, find_mosquitto
from hil.private_ca import OpensslUnavailableError, PrivateCa

pytestmark = [
    pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed"),
    pytest.mark.timeout(120),
]
ROOT = Path(__file__).resolve().parents[2]
MDT = str(Path(sys.executable).parent / "mdt")
SENTENCE = b"$GPRMC,120010,A,4221.5000,N,07103.9000,W,020.0,045.0,140926,,*0A\r\n"
ELSEWHERE = {"disk", "service", "computer", "clock"}
"""What these say depends on the machine that the test runs on."""
CONFIG = """
status_socket = "{folder}/mdt.sock"
unit = {{ agency = "demo", unit = "T7" }}
store = {{ directory = "{folder}/store", budget_mib = 1, replay_budget_mib = 1 }}
[[device]]
kind = "gnss_serial"
device = "{folder}/gnss0"
baud = 9600
[[device]]
kind = "can_slcan"
device = "{folder}/slcan0"
bitrate = 500000
vehicle = "{folder}/vehicle.toml"
[[device]]
kind = "button_box"
device = "{folder}/buttons0"
[[uplink.brokers]]
host = "127.0.0.1"
port = {port}
allow_plaintext = true
username = "T7"
password = {{ file = "{folder}/password" }}
"""


class Receiver:
    """A receiver on a PTY, which reads as noise unless its line is set to the right speed."""

    def __init__(self, link: Path, baud: int, *, is_silent: bool = False) -> None:
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        self._slave = slave
        link.symlink_to(os.ttyname(slave))
        os.set_blocking(self._master, False)
        self._speed = getattr(termios, f"B{baud}")
        self._is_silent = is_silent
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._speak)
        self._thread.start()

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)

    def _speak(self) -> None:
        while not self._ending.wait(0.1):
            right = termios.tcgetattr(self._slave)[5] == self._speed
            if not self._is_silent:
                with suppress(BlockingIOError):
                    os.write(self._master, SENTENCE if right else b"\xf8\x80\xfe\x06\xe6\n" * 8)


@dataclass
class Mistake:
    """What is wrong with a vehicle that is else fitted right.

    Attributes:
        named: (check, words) of the line that must name it.
        edit: changes the text of the configuration.
        prepare: changes the files of the vehicle.
        bus_bit_rate: what the vehicle's bus really has.
        is_silent: the receiver says nothing.
        baud: at which the receiver speaks.
    """

    named: tuple[str, str]
    edit: Callable[[str], str] = lambda text: text
    prepare: Callable[[Path], object] = lambda _: None
    bus_bit_rate: int = 500_000
    is_silent: bool = False
    baud: int = 9600


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a Unix socket's is limited to 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="mdt-") as path:
        yield Path(path)


@asynccontextmanager
async def vehicle(folder: Path, mistake: Mistake) -> AsyncIterator[Path]:
    """A vehicle on its devices and a broker; gives its configuration."""
    options = BrokerOptions(
        users={"T7": "right", "T8": "right"},
        access_rules=[
            "user T7",
            *(f"topic write ems/v1/demo/T7/{area}/+" for area in ("state", "journal", "reply")),
            "topic read ems/v1/demo/T7/command/+",
            "topic read ems/v1/demo/T7/receipt",
        ],
    )
    demo = (ROOT / "config" / "vehicles" / "demo_ambulance.toml").read_text(encoding="utf-8")
    dbc = ROOT / "config" / "vehicles" / "demo_ambulance.dbc"
    (folder / "vehicle.toml").write_text(demo.replace('"demo_ambulance.dbc"', f'"{dbc}"'), encoding="utf-8")
    (folder / "password").write_text("right", encoding="utf-8")
    (folder / "password").chmod(0o640)
    receiver = Receiver(folder / "gnss0", mistake.baud, is_silent=mistake.is_silent)
    adapter = PtySlcanAdapter(folder / "slcan0")
    adapter.plug()
    box = PtyButtonBox(folder / "buttons0", random.Random(1))
    await box.start()
    speaking = asyncio.create_task(_speak(adapter, mistake.bus_bit_rate))
    broker = Mosquitto(folder / "broker", options)
    try:
        await asyncio.to_thread(broker.start)
        mistake.prepare(folder)
        config = folder / "agent.toml"
        config.write_text(mistake.edit(CONFIG.format(folder=folder, port=broker.port)), encoding="utf-8")
        yield config
    finally:
        await asyncio.to_thread(broker.stop)
        speaking.cancel()
        with suppress(asyncio.CancelledError):
            await speaking
        await box.stop()
        adapter.unplug()
        receiver.close()
        assert adapter.transmit_requests == []


async def _speak(adapter: PtySlcanAdapter, bit_rate: int) -> None:
    while True:
        if adapter.firmware.bitrate == bit_rate:
            adapter.send([(0x120, False, bytes(8)), (0x320, False, bytes(4))])
        await asyncio.sleep(0.02)


async def examined(config: Path, *options: str) -> tuple[int, list[dict[str, Any]], str]:
    process = await asyncio.create_subprocess_exec(
        MDT, "doctor", "--config", str(config), "--for", "1", *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(100):
            out, err = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    assert b"Traceback" not in err, err.decode()
    text = out.decode()
    findings = json.loads(text)["findings"] if "--json" in options else []
    assert process.returncode is not None
    return process.returncode, findings, text


def bad(findings: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    assert all(one["do"] for one in findings if one["verdict"] != "good")
    return [
        (one["check"], one["subject"], one["what"])
        for one in findings
        if one["verdict"] == "bad" and one["check"] not in ELSEWHERE
    ]


def test_a_vehicle_that_is_fitted_right_is_told_so_and_gets_its_record(folder: Path) -> None:
    async def script() -> None:
        async with vehicle(folder, Mistake(("", ""))) as config:
            _, findings, _ = await examined(config, "--json")
            assert bad(findings) == []
            said = [f"{one['check']}: {one['what']}" for one in findings if one["verdict"] == "good"]
            assert "broker: T7 may hear commands" in said
            assert "broker: T7 may send its journal" in said
            assert "broker: T7 may answer commands" in said
            assert any("whole sentences" in line for line in said)
            assert any("known signals" in line for line in said)
            _, _, page = await examined(config, "--record", str(folder / "record.txt"))
            record = (folder / "record.txt").read_text(encoding="utf-8")
            assert "demo/T7" in record
            assert "Signature" in record
            assert all(line in record for line in page.splitlines() if line.startswith(("good", "BAD")))

    asyncio.run(script())


def _no_emergency(text: str) -> str:
    keys = ", ".join(f'{status.value} = "{status.value}"' for status in UnitStatus)
    return f"{text}\n[buttons]\nkeys = {{ {keys} }}\n"


def _other_vehicle(folder: Path) -> None:
    truck = ROOT / "config" / "vehicles" / "j1939_chassis.toml"
    (folder / "vehicle.toml").write_text(truck.read_text(encoding="utf-8"), encoding="utf-8")


def _misspelt_signal(folder: Path) -> None:
    path = folder / "vehicle.toml"
    path.write_text(
        path.read_text(encoding="utf-8").replace('"VehicleSpeed"', '"VehicleSped"'), encoding="utf-8"
    )


MISTAKES = {
    "a misspelt kind": Mistake(
        ("configuration", "did you mean"), lambda text: text.replace("can_slcan", "can_slcn")
    ),
    "the example's broker": Mistake(
        ("configuration", "is the example's"),
        lambda text: text.replace('"127.0.0.1"', '"broker.example.org"'),
    ),
    "a receiver that is not there": Mistake(
        ("devices", "is not there"), lambda text: text.replace("/gnss0", "/gnss1")
    ),
    "the wrong speed of the receiver": Mistake(
        ("devices", "it speaks at 9600"), lambda text: text.replace("baud = 9600", "baud = 38400")
    ),
    "a receiver without power": Mistake(("devices", "says nothing"), is_silent=True),
    "the wrong bit rate of the bus": Mistake(
        ("vehicle bus", "the bus speaks at 250000"), bus_bit_rate=250_000
    ),
    "another vehicle's file": Mistake(("vehicle bus", "none is in vehicle.toml"), prepare=_other_vehicle),
    "a misspelt signal": Mistake(("vehicle bus", "did you mean 'VehicleSpeed'"), prepare=_misspelt_signal),
    "a wrong password": Mistake(
        ("broker", "it says no"),
        prepare=lambda folder: (folder / "password").write_text("wrong", encoding="utf-8"),
    ),
    "a unit without rights": Mistake(("broker", "T8 may not"), lambda text: text.replace('"T7"', '"T8"')),
    "no broker": Mistake(("broker", "not reached"), lambda text: text.replace("port = ", "port = 9 # ")),
    "a password for everybody": Mistake(
        ("secrets", "everybody"), prepare=lambda folder: (folder / "password").chmod(0o644)
    ),
    "no emergency button": Mistake(("buttons", "no key means emergency"), _no_emergency),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_named_with_what_to_do(folder: Path, name: str) -> None:
    mistake = MISTAKES[name]

    async def script() -> None:
        async with vehicle(folder, mistake) as config:
            code, findings, _ = await examined(config, "--json")
            check, words = mistake.named
            assert any(one == check and words in what for one, _, what in bad(findings)), bad(findings)
            assert code == 1

    asyncio.run(script())


@pytest.mark.parametrize(
    ("name", "days", "words"),
    [
        ("T9", 90, "the certificate is of T9, and this unit is T7"),
        ("T7", -1, "the certificate ended on"),
        ("T7", 3, "the certificate ends on"),
        ("T7", 90, "the certificate is of T7 and lasts until"),
    ],
)
def test_the_certificate_is_held_against_the_units_name_and_its_end(
    folder: Path, name: str, days: int, words: str
) -> None:
    try:
        ca = PrivateCa(folder / "ca")
    except OpensslUnavailableError as error:
        pytest.skip(str(error))
    certificate = ca.issue(name, days=days)
    tls = (
        f'allow_plaintext = false\ntls = {{ ca_file = "{ca.ca_file}", '
        f'certificate_file = "{certificate.certificate_file}", key_file = "{certificate.key_file}" }}'
    )

    async def script() -> None:
        mistake = Mistake(("", ""), lambda text: text.replace("allow_plaintext = true", tls))
        async with vehicle(folder, mistake) as config:
            _, findings, _ = await examined(config, "--json")
            (line,) = [one for one in findings if one["check"] == "certificate"]
            assert words in line["what"]
            assert (line["verdict"] == "good") == ("lasts" in words)
            # The broker of this test speaks no TLS: that is named, too.
            assert any(check == "broker" and "hangs up" in what for check, _, what in bad(findings)), bad(
                findings
            )

    asyncio.run(script())
