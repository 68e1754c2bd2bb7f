"""python -m hil demo: a shift in Boston, from buttons and receivers to dispatch, live in the terminal."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from agent.cli.terminal import INTERRUPTED
from agent.runtime.plain_text import harmless
from firmware_shims.can_bus import socketcan_available
from hil.broker_process import Broker, BrokerUnavailableError
from hil.demo.crew_page import CrewPage
from hil.demo.page import CALL, DemoPage
from hil.demo.screen import Screen, print_summary, print_verdict
from hil.demo.summary import Summary
from hil.demo.vehicle import DELIVERED_WITHIN_S, DemoVehicle
from hil.drive.items import Drive
from hil.drive.nmea_drive import nmea_drive
from hil.drive.shift import load_shift
from hil.drive.timeline import NS
from hil.process.process_rig import ProcessRig
from hil.process.vehicle_config import AGENCY, UNIT

DEFAULT_SPEED = 10.0
VCAN = "vcan0"
FASTEST = 30.0
"""Beyond this the devices say more in a second than their lines could carry."""
REFRESH_S = 0.12
START_APART_S = 1.5
"""Between the starts of two vehicles: they do not drive in one another's place."""


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
    parser.add_argument(
        "--units", type=int, choices=range(1, 7), default=1, help="vehicles that drive at once (default 1)"
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
        first: Drive = nmea_drive(args.gps) if args.gps else load_shift("boston_demo", args.seed)
        more: list[Drive] = [load_shift("boston_demo", args.seed + one) for one in range(1, args.units)]
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
    speed = args.speed or _speed_for(first, args.for_s)
    directory = args.keep or Path(tempfile.mkdtemp(prefix="mdt-demo-"))
    directory.mkdir(parents=True, exist_ok=True)
    kept = args.keep is not None
    try:
        wish = _Wish([first, *more], speed, args.for_s, directory, kept, args.seed)
        summaries = asyncio.run(_Demo(console, wish).run())
    except (BrokerUnavailableError, RuntimeError) as error:
        console.print(Text(f"{error}", style="bold red"))
        return 1
    except KeyboardInterrupt:
        console.print("Stopped before its end: nothing was counted.", style="bold yellow")
        return INTERRUPTED
    finally:
        if args.keep is None:
            shutil.rmtree(directory, ignore_errors=True)
    for one in summaries:
        print_summary(console, one, named=len(summaries) > 1)
    good = all(one.good for one in summaries)
    print_verdict(console, good=good)
    if args.json is not None:
        told = summaries[0].as_json() | {"units": [one.as_json() for one in summaries], "good": good}
        args.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return 0 if good else 1


def _speed_for(drive: Drive, for_s: float | None) -> float:
    """So fast that the whole drive fits; a shorter wish than `FASTEST` allows cuts the drive instead."""
    if for_s is None:
        return DEFAULT_SPEED
    return min(FASTEST, max(1.0, drive.duration_s / for_s))


@dataclass(frozen=True, slots=True)
class _Wish:
    """What was asked for.

    Attributes:
        drives: one for each vehicle, the first on the terminal.
        speed: times the speed of life.
        for_s: how long it may take; None for the whole drive.
        directory: for configurations, logs and stores.
        kept: the folder stays.
        seed: of devices and network.
    """

    drives: list[Drive]
    speed: float
    for_s: float | None
    directory: Path
    kept: bool
    seed: int


class _Demo:
    """One run of the demo."""

    def __init__(self, console: Console, wish: _Wish) -> None:
        self._console = console
        self._wish = wish
        self._screen: Screen
        self._vehicles: list[DemoVehicle] = []

    async def run(self) -> list[Summary]:
        """Drive, wait until all is delivered, count; one summary a vehicle."""
        wish, first = self._wish, self._wish.drives[0]
        length = first.duration_s / wish.speed
        self._console.print(f"{first.name}: {length:.0f} s at {wish.speed:.3g} times the speed of life")
        # Where the kernel has SocketCAN the same shift runs on it; elsewhere on an SLCAN adapter's PTY.
        vcan = VCAN if socketcan_available(VCAN) else None
        crew_page = CrewPage(wish.directory / "agent.toml", wish.directory)
        async with AsyncExitStack() as stack:
            leader = await stack.enter_async_context(
                self._rig(wish.directory, UNIT, crew_page.settings, vcan=vcan)
            )
            others = [
                await stack.enter_async_context(
                    self._rig(wish.directory / f"A{number}", f"A{number}", {}, broker=leader.broker)
                )
                for number in range(2, len(wish.drives) + 1)
            ]
            page = await stack.enter_async_context(self._dispatch(leader))
            await stack.enter_async_context(self._crew(crew_page))
            self._say_where(leader, page, crew_page)
            for rig, drive in zip((leader, *others), wish.drives, strict=True):
                self._vehicles.append(self._vehicle(rig, drive))
                await rig.boot()
            await self._drive_all(page)
            summaries = [await vehicle.count() for vehicle in self._vehicles]
            return [await self._with_stored(page, one) for one in summaries]

    def _rig(
        self,
        directory: Path,
        unit: str,
        settings: dict[str, Any],
        *,
        vcan: str | None = None,
        broker: Broker | None = None,
    ) -> ProcessRig:
        speed = self._wish.speed
        directory.mkdir(parents=True, exist_ok=True)
        overrides = {
            "clock": {"replay": speed != 1},
            # Lamps say delivered by the receipts of dispatch's real service, and by nothing else.
            "uplink": {"confirm": "dispatch"},
            # As often on the road of the drive as a vehicle tells it by default.
            "reporting": {"vehicle_state_interval_s": 10 / max(speed, 1)},
            **settings,
        }
        return ProcessRig(
            directory,
            overrides=overrides,
            seed=self._wish.seed,
            vcan=vcan,
            receipts=False,
            unit=unit,
            broker=broker,
        )

    def _vehicle(self, rig: ProcessRig, drive: Drive) -> DemoVehicle:
        wish = self._wish
        name = "" if rig.unit.unit == UNIT else f"{rig.unit.unit}: "
        until_ns = None if wish.for_s is None else round(wish.for_s * wish.speed * NS)
        return DemoVehicle(
            rig,
            drive,
            speed=wish.speed,
            until_ns=until_ns,
            tell=lambda text, style: self._screen.tell(name + text, style),
        )

    def _say_where(self, rig: ProcessRig, page: DemoPage, crew_page: CrewPage) -> None:
        wish = self._wish
        self._console.print(
            f"the daemon speaks to {rig.broker.kind} on 127.0.0.1:{rig.broker.port}; its files are "
            + (f"in {wish.directory}" if wish.kept else "deleted at the end (--keep DIR keeps them)"),
            soft_wrap=True,
        )
        self._console.print(f"dispatch's page: {page.address}", style="bold", soft_wrap=True)
        self._console.print(f"the crew's page: {crew_page.address}", style="bold", soft_wrap=True)

    async def _drive_all(self, page: DemoPage) -> None:
        """Everybody at once, the terminal and the call beside them."""
        loop = asyncio.get_running_loop()
        with Screen(self._console, self._vehicles) as self._screen:
            beside = [
                loop.create_task(self._refresh(), name="demo-screen"),
                loop.create_task(self._assign(page), name="demo-call"),
            ]
            try:
                async with asyncio.TaskGroup() as driving:
                    for number, vehicle in enumerate(self._vehicles):
                        driving.create_task(self._one(vehicle, number * START_APART_S))
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)

    async def _one(self, vehicle: DemoVehicle, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await vehicle.drive()

    @contextlib.asynccontextmanager
    async def _dispatch(self, rig: ProcessRig) -> AsyncIterator[DemoPage]:
        """The service at dispatch, as a process of its own."""
        page = DemoPage(self._wish.directory / "dispatch", f"mqtt://127.0.0.1:{rig.broker.port}")
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

    async def _with_stored(self, page: DemoPage, summary: Summary) -> Summary:
        """With what the service itself has on its disk; the last receipts follow the last records."""
        stored = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DELIVERED_WITHIN_S):
                while stored < summary.records_received:
                    stored = await asyncio.to_thread(page.stored, summary.unit)
                    await asyncio.sleep(REFRESH_S)
        return replace(summary, stored_at_dispatch=stored)

    async def _refresh(self) -> None:
        loop = asyncio.get_running_loop()
        next_ask_s = 0.0
        while True:
            if loop.time() >= next_ask_s:
                next_ask_s = loop.time() + 0.5
                await self._vehicles[0].look()
            self._screen.refresh(loop.time())
            await asyncio.sleep(REFRESH_S)
