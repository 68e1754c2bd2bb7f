"""Runs in the machine: the whole vehicle. The real daemon, a button box, a receiver, a broker, dispatch.

Speaks as `hil.kernel.guest_outbox` does, without the ROWs: a press is announced (PUT), its lamp says "stored"
(ACK), dispatch has it (SENT). The box has no supply of its own, so a press it still kept is lost with it; the
broker is as volatile, so that what only the broker had must come again from the vehicle's replay window.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import zlib
from contextlib import suppress
from functools import reduce
from operator import xor
from pathlib import Path

from agent.config import Broker as BrokerConfig
from agent.domain.record import StatusChange, Stream
from agent.hal.buttons import Lamp
from agent.supervision.daemon_answer import DaemonAwayError, ask
from agent.uplink.link.paho_link import PahoLink
from firmware_shims.simulated.button_box import PtyButtonBox
from firmware_shims.simulated.nmea_receiver import PtyReceiver
from hil.broker_process import BrokerOptions, open_broker
from hil.dispatch import Dispatch
from hil.kernel.console import say
from hil.kernel.guest_outbox import PRESS_STRIDE, STATUSES
from hil.process.vehicle_config import AGENCY, UNIT, to_toml

HOME = Path("/run/tmp")
START_S = 30.0
LAMP_S = 20.0
FIX_EVERY_S = 0.1
RUN_DAEMON = "import sys; from agent.cli.main import main; sys.exit(main())"
PRIMER, *KEYS = STATUSES
"""The first press of a boot. A key whose status holds already makes no new record: none is promised."""


class RunAsSession(random.Random):
    """Gives each box the number of the boot as its session, so that a press can be told from all others."""

    def __init__(self, run: int) -> None:
        super().__init__()
        self._run = run

    def getrandbits(self, k: int, /) -> int:
        """The number of the boot."""
        return self._run % (1 << k)


class Vehicle:
    """Everything on board, and dispatch. Used as `async with`."""

    def __init__(self, directory: Path, synchronous: str, run: int, *, link_up: bool) -> None:
        self._directory = directory
        self._synchronous = synchronous
        self._run = run
        self._link_up = link_up
        self._receiver = PtyReceiver(HOME / "gnss0")
        self._broker = open_broker(HOME / "broker", BrokerOptions(persistence=False))
        self._daemon: asyncio.subprocess.Process
        self._told = 0
        self.box = PtyButtonBox(HOME / "buttons0", RunAsSession(run))
        self.dispatch: Dispatch

    async def __aenter__(self) -> Vehicle:
        self._broker.start()
        config_file = HOME / "agent.toml"
        config_file.write_text(to_toml(self._configuration()), encoding="utf-8")
        self._receiver.plug()
        await self.box.start()
        command = (sys.executable, "-S", "-B", "-c", RUN_DAEMON, "run", "--config", str(config_file))
        self._daemon = await asyncio.create_subprocess_exec(*command)
        broker = BrokerConfig(host=self._broker.host, port=self._broker.port, allow_plaintext=True)
        self.dispatch = Dispatch(PahoLink(), broker)
        self.dispatch.listen(self._tell_arrivals)
        if self._link_up:
            await self.dispatch.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            self._daemon.terminate()
        await self._daemon.wait()
        await self.dispatch.stop()
        await self.box.stop()
        self._receiver.unplug()
        self._broker.stop()

    async def drive(self) -> None:
        """Let the receiver speak, ten times as often as one in a vehicle."""
        number = 0
        while True:
            number += 1
            self._receiver.send(_rmc(number))
            await asyncio.sleep(FIX_EVERY_S)

    async def press(self, key: str, *, promise: bool = True) -> None:
        """Press a key until its lamp says "stored"."""
        self.box.press(key)
        number = self._run * PRESS_STRIDE + self.box.firmware.last_seq
        if promise:
            say("PUT", number, _crc(key))
        await self.box.wait_lamp(key, Lamp.STORED, Lamp.DELIVERED, Lamp.RECEIVED, within_s=LAMP_S)
        if promise:
            say("ACK", number, 0, 0)
        self.box.release(key)

    async def wait_delivered(self) -> None:
        """Wait until nothing waits on board and dispatch has every event there ever was."""
        while not await asyncio.to_thread(self._is_delivered):
            await asyncio.sleep(0.1)

    def _is_delivered(self) -> bool:
        try:
            report = ask(HOME / "mdt.sock", "outbox")
        except DaemonAwayError:
            return False
        streams = report["streams"].values()
        waiting = report["not_yet_on_disk_records"] or any(
            s["last_seq"] != s["confirmed_seq"] for s in streams
        )
        events = sum(a.record.stream is Stream.EVENTS for a in self.dispatch.arrivals)
        return not waiting and events >= report["streams"]["events"]["last_seq"]

    def _tell_arrivals(self) -> None:
        for arrival in self.dispatch.arrivals[self._told :]:
            record = arrival.record
            if record.stream is Stream.EVENTS:
                body = record.body
                if isinstance(body, StatusChange) and body.press_seq and body.press_session is not None:
                    say(
                        "SENT",
                        record.seq,
                        body.press_session * PRESS_STRIDE + body.press_seq,
                        _crc(body.status),
                    )
                else:
                    say("SENT", record.seq, "-", 0)
        self._told = len(self.dispatch.arrivals)

    def _configuration(self) -> dict[str, object]:
        # A port that nobody listens on is a vehicle without coverage.
        port = self._broker.port if self._link_up else 9
        return {
            "status_socket": str(HOME / "mdt.sock"),
            "unit": {"agency": AGENCY, "unit": UNIT},
            "store": {
                "directory": str(self._directory),
                "synchronous": self._synchronous,
                "group_commit_s": 0.5,
            },
            "device": [
                {"kind": "gnss_serial", "device": str(self._receiver.link)},
                {"kind": "button_box", "device": str(self.box.link)},
            ],
            "reporting": {"moving_interval_s": 0.1},
            "uplink": {
                "brokers": [{"host": "127.0.0.1", "port": port, "allow_plaintext": True}],
                "reconnect_min_s": 0.2,
                "drain_bytes_per_s": 1_000_000,
            },
            "log": {"level": "error"},
        }


def _rmc(number: int) -> bytes:
    """A fix `number` tenths of a second after a full minute of a shift, a little further up the street."""
    tenths = number % 864_000
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    time = f"{hours:02}{minutes:02}{rest / 10:04.1f}"
    text = f"GPRMC,{time},A,42{20 + number / 1e4:07.4f},N,07103.0000,W,12.0,5.0,140326,,"
    return f"${text}*{reduce(xor, text.encode()):02X}\r\n".encode()


def _crc(status: str) -> int:
    return zlib.crc32(status.encode())


async def _run(args: argparse.Namespace) -> None:
    vehicle = Vehicle(args.directory, args.synchronous, args.run, link_up=args.drain or args.link == "up")
    dice = random.Random(args.seed)
    async with vehicle:
        async with asyncio.timeout(START_S):
            await vehicle.press(PRIMER, promise=False)
        say("READY")
        if args.drain:
            await vehicle.wait_delivered()
            say("DRAINED")
            return
        driving = asyncio.create_task(vehicle.drive())
        for count in range(PRESS_STRIDE):
            await vehicle.press(KEYS[count % len(KEYS)])
            await asyncio.sleep(dice.choice((0, 0.01, 0.1)))
        driving.cancel()


def main() -> None:
    """Entry point; the arguments are those of `hil.kernel.guest_outbox`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--synchronous", default="FULL")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run", type=int, default=1)
    parser.add_argument(
        "--audit-after", type=int, default=0, help="not used: the store is the daemon's alone"
    )
    parser.add_argument("--audit-trail-after", type=int, default=0)
    parser.add_argument("--link", choices=("up", "down"), default="up")
    parser.add_argument("--drain", action="store_true")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
