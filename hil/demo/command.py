"""python -m hil demo: a shift in Boston, from buttons and receivers to dispatch, live in the terminal."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from agent.cli.terminal import INTERRUPTED
from agent.domain.state import LinkState
from agent.runtime.plain_text import harmless
from firmware_shims.can_bus import socketcan_available
from hil.broker_process import BrokerUnavailableError
from hil.demo.crew_page import CrewPage
from hil.demo.page import CALL, DemoPage
from hil.demo.screen import Screen, print_summary
from hil.demo.summary import Summary, summarise
from hil.drive.items import CoverageItem, Drive, TruthItem
from hil.drive.nmea_drive import nmea_drive
from hil.drive.shift import load_shift
from hil.drive.timeline import NS
from hil.process.process_rig import ProcessRig
from hil.process.store_counters import last_sequences
from hil.process.vehicle_config import AGENCY, UNIT

DEFAULT_SPEED = 10.0
VCAN = "vcan0"
FASTEST = 30.0
"""Beyond this the devices say more in a second than their lines could carry."""
DELIVERED_WITHIN_S = 45.0
REFRESH_S = 0.12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--for", dest="for_s", type=positive, metavar="SECONDS", help="how long the drive may take"
    )
    parser.add_argument("--speed", type=positive, help=f"times faster than life (default {DEFAULT_SPEED:g})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the summary here")
    parser.add_argument(
        "--gps", type=Path, metavar="FILE", help="drive a recorded NMEA log instead of Boston"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the simulated shift")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep configuration, logs and store in this folder"
    )


def positive(text: str) -> float:
    """An option's value that must be above zero."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return value


def run(args: argparse.Namespace) -> int:
    """Run the demo. Returns 0 only when nothing was lost and every status came, in order."""
    console = Console()
    try:
        drive: Drive = nmea_drive(args.gps) if args.gps else load_shift("boston_demo", args.seed)
        if args.json is not None:
            args.json.touch()
    except OSError as error:
        console.print(
            Text(f"{error.filename}: can not be read or written: {error.strerror}", style="bold red")
        )
        return 2
    except ValueError as error:
        console.print(Text(harmless(str(error)), style="bold red"))
        return 2
    speed = args.speed or _speed_for(drive, args.for_s)
    directory = args.keep or Path(tempfile.mkdtemp(prefix="mdt-demo-"))
    directory.mkdir(parents=True, exist_ok=True)
    kept = args.keep is not None
    try:
        demo = _Demo(
            console, drive, speed=speed, for_s=args.for_s, directory=directory, kept=kept, seed=args.seed
        )
        summary = asyncio.run(demo.run())
    except (BrokerUnavailableError, RuntimeError) as error:
        console.print(Text(f"{error}", style="bold red"))
        return 1
    except KeyboardInterrupt:
        console.print("Stopped before its end: nothing was counted.", style="bold yellow")
        return INTERRUPTED
    finally:
        if args.keep is None:
            shutil.rmtree(directory, ignore_errors=True)
    print_summary(console, summary)
    if args.json is not None:
        args.json.write_text(json.dumps(summary.as_json(), indent=2) + "\n", encoding="utf-8")
    return 0 if summary.good else 1


def _speed_for(drive: Drive, for_s: float | None) -> float:
    """So fast that the whole drive fits; a shorter wish than `FASTEST` allows cuts the drive instead."""
    if for_s is None:
        return DEFAULT_SPEED
    return min(FASTEST, max(1.0, drive.duration_s / for_s))


class _Demo:
    """One run of the demo."""

    def __init__(
        self,
        console: Console,
        drive: Drive,
        *,
        speed: float,
        for_s: float | None,
        directory: Path,
        kept: bool,
        seed: int,
    ) -> None:
        self._console = console
        self._drive = drive
        self._speed = speed
        self._until_ns = None if for_s is None else round(for_s * speed * NS)
        self._directory = directory
        self._kept = kept
        self._seed = seed
        self._outages_s: list[tuple[float, float]] = []
        self._cut_at_s: float | None = None
        self._truth: TruthItem | None = None
        self._was_inside = False
        self._screen: Screen
        self._rig: ProcessRig

    async def run(self) -> Summary:
        """Drive, wait until all is delivered, count."""
        length = self._drive.duration_s / self._speed
        self._console.print(
            f"{self._drive.name}: {length:.0f} s at {self._speed:.3g} times the speed of life"
        )
        # Where the kernel has SocketCAN the same shift runs on it; elsewhere on an SLCAN adapter's PTY.
        vcan = VCAN if socketcan_available(VCAN) else None
        # Lamps say delivered by the receipts of dispatch's real service, and by nothing else.
        crew_page = CrewPage(self._directory / "agent.toml", self._directory)
        overrides = {
            "clock": {"replay": self._speed != 1},
            "uplink": {"confirm": "dispatch"},
            # As often on the road of the drive as a vehicle tells it by default.
            "reporting": {"vehicle_state_interval_s": 10 / max(self._speed, 1)},
            **crew_page.settings,
        }
        rig = ProcessRig(self._directory, overrides=overrides, seed=self._seed, vcan=vcan, receipts=False)
        async with rig as self._rig, self._dispatch(rig) as page, self._crew(crew_page):
            self._console.print(
                f"the daemon speaks to {rig.broker.kind} on 127.0.0.1:{rig.broker.port}; its files are "
                + (f"in {self._directory}" if self._kept else "deleted at the end (--keep DIR keeps them)"),
                soft_wrap=True,
            )
            self._console.print(f"dispatch's page: {page.address}", style="bold", soft_wrap=True)
            self._console.print(f"the crew's page: {crew_page.address}", style="bold", soft_wrap=True)
            await rig.boot()
            assigning = asyncio.get_running_loop().create_task(self._assign(page), name="demo-call")
            with Screen(self._console, rig.dispatch, self._clock_text) as self._screen:
                refreshing = asyncio.get_running_loop().create_task(self._refresh(), name="demo-screen")
                try:
                    await rig.play(
                        self._drive.items(),
                        speed=self._speed,
                        until_ns=self._until_ns,
                        more_sinks={CoverageItem: self._coverage, TruthItem: self._see_truth},
                    )
                    await self._lift()
                    self._screen.tell("the drive is over; waiting for the last records")
                    delivered = await rig.wait_delivered(DELIVERED_WITHIN_S)
                finally:
                    refreshing.cancel()
                    assigning.cancel()
                    await asyncio.gather(refreshing, assigning, return_exceptions=True)
            return await self._count(delivered)

    @contextlib.asynccontextmanager
    async def _dispatch(self, rig: ProcessRig) -> AsyncIterator[DemoPage]:
        """The service at dispatch, as a process of its own."""
        page = DemoPage(self._directory / "dispatch", f"mqtt://127.0.0.1:{rig.broker.port}")
        await asyncio.to_thread(page.start)
        try:
            yield page
        finally:
            await asyncio.to_thread(page.stop)

    @contextlib.asynccontextmanager
    async def _crew(self, page: CrewPage) -> AsyncIterator[None]:
        """The server of the crew's page, as a process of its own."""
        await asyncio.to_thread(page.start)
        try:
            yield
        finally:
            await asyncio.to_thread(page.stop)

    async def _assign(self, page: DemoPage) -> None:
        if await asyncio.to_thread(page.assign, AGENCY, UNIT):
            self._screen.tell(f"dispatch assigns call {CALL['incident']}: {CALL['address']}", "bold")

    async def _count(self, delivered: bool) -> Summary:
        rig = self._rig
        link = rig.dispatch.states.get("link")
        await rig.agent.stop()
        made = last_sequences(rig.store_file)
        await self._wait_for_last(sum(made.values()))
        return summarise(
            made=made,
            dispatch=rig.dispatch,
            presses=rig.presses,
            outages_s=self._outages_s,
            statuses_pressed=_expected_statuses([press.key for press in rig.presses.presses]),
            daemon_starts=rig.agent.starts,
            broker=rig.broker.kind,
            mqtt_version=link.mqtt_version if isinstance(link, LinkState) else None,
            all_delivered=delivered,
        )

    async def _wait_for_last(self, made: int) -> None:
        """What the daemon sent while it stopped is on its way; a record that never comes is lost."""
        counts = self._rig.dispatch.reader.counts
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3):
                while counts.accounted < made:
                    await asyncio.sleep(0.05)
                    counts = self._rig.dispatch.reader.counts

    async def _coverage(self, item: CoverageItem) -> None:
        if item.covered:
            await self._lift()
        elif self._cut_at_s is None:
            self._cut_at_s = asyncio.get_running_loop().time()
            self._screen.network_up = False
            self._screen.tell("coverage lost: the broker is out of reach", "bold red")
            await self._rig.proxy.cut()

    async def _lift(self) -> None:
        if self._cut_at_s is not None:
            await self._rig.proxy.lift()
            self._outages_s.append((self._cut_at_s, asyncio.get_running_loop().time()))
            self._cut_at_s = None
            self._screen.network_up = True
            self._screen.tell("coverage is back", "bold green")

    def _see_truth(self, item: TruthItem) -> None:
        if self._truth is not None and self._truth.has_fix != item.has_fix:
            came_out = "out of the tunnel" if self._was_inside else "the receiver sees the sky"
            self._screen.tell(came_out if item.has_fix else "into a tunnel")
            self._was_inside = not item.has_fix
        self._truth = item

    async def _refresh(self) -> None:
        loop = asyncio.get_running_loop()
        next_ask_s = 0.0
        while True:
            if loop.time() >= next_ask_s:
                next_ask_s = loop.time() + 0.5
                report = await self._rig.agent.outbox()
                if report is not None:
                    streams = report["streams"].values()
                    waiting = sum(one["last_seq"] - one["confirmed_seq"] for one in streams)
                    self._screen.backlog = waiting + report["not_yet_on_disk_records"]
            self._screen.refresh(loop.time())
            await asyncio.sleep(REFRESH_S)

    def _clock_text(self) -> str:
        seconds = 0 if self._truth is None else self._truth.t_ns // NS
        return f"{seconds // 60:02d}:{seconds % 60:02d}"


def _expected_statuses(keys: list[str]) -> list[str]:
    """What dispatch should have of these presses: a key pressed again is no new status."""
    statuses: list[str] = []
    for key in keys:
        if key != "emergency" and (not statuses or statuses[-1] != key):
            statuses.append(key)
    return statuses
