"""One vehicle of the demo: its drive through places without coverage, and what came of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from agent.domain.state import LinkState
from hil.demo.summary import Summary, summarise
from hil.drive.items import CoverageItem, Drive, TruthItem
from hil.drive.timeline import NS
from hil.process.process_rig import ProcessRig
from hil.process.store_counters import last_sequences

DELIVERED_WITHIN_S = 60.0
LIT_WITHIN_S = 10.0

Tell = Callable[[str, str], None]


class DemoVehicle:
    """Drives on a rig of its own. Used from one event loop.

    Args:
        rig: entered and left by the caller.
        drive: what its devices say.
        speed: times the speed of life.
        until_ns: where the drive is cut; None for its end.
        tell: takes a sentence of what happened, and its style.

    Attributes:
        covered: whether the broker is within reach.
        backlog: records that are not confirmed.
    """

    def __init__(
        self, rig: ProcessRig, drive: Drive, *, speed: float, until_ns: int | None, tell: Tell
    ) -> None:
        self.rig = rig
        self._drive = drive
        self._speed = speed
        self._until_ns = until_ns
        self._tell = tell
        self._outages_s: list[tuple[float, float]] = []
        self._cut_at_s: float | None = None
        self._truth: TruthItem | None = None
        self._was_inside = False
        self._delivered = False
        self.backlog = 0

    @property
    def covered(self) -> bool:
        """Whether the broker is within reach."""
        return self._cut_at_s is None

    async def drive(self) -> None:
        """Drive to the end, and wait until everything is at dispatch and said so."""
        await self.rig.play(
            self._drive.items(),
            speed=self._speed,
            until_ns=self._until_ns,
            more_sinks={CoverageItem: self._coverage, TruthItem: self._see_truth},
        )
        await self._lift()
        self._tell("the drive is over; waiting for the last records", "dim")
        self._delivered = await self.rig.wait_delivered(DELIVERED_WITHIN_S)

    async def count(self) -> Summary:
        """Stop the daemon and count what became of everything that it made."""
        rig = self.rig
        link = rig.dispatch.states.get("link")
        await rig.agent.stop()
        made = last_sequences(rig.store_file)
        await self._wait_for_last(sum(made.values()))
        return summarise(
            unit=rig.unit.unit,
            made=made,
            dispatch=rig.dispatch,
            presses=rig.presses,
            outages_s=self._outages_s,
            statuses_pressed=_expected_statuses([press.key for press in rig.presses.presses]),
            daemon_starts=rig.agent.starts,
            broker=rig.broker.kind,
            mqtt_version=link.mqtt_version if isinstance(link, LinkState) else None,
            all_delivered=self._delivered,
        )

    async def look(self) -> None:
        """Ask the daemon how much waits."""
        report = await self.rig.agent.outbox()
        if report is not None:
            waiting = sum(one["last_seq"] - one["confirmed_seq"] for one in report["streams"].values())
            self.backlog = waiting + report["not_yet_on_disk_records"]

    def clock_text(self) -> str:
        """Minutes and seconds of the drive."""
        seconds = 0 if self._truth is None else self._truth.t_ns // NS
        return f"{seconds // 60:02d}:{seconds % 60:02d}"

    async def _wait_for_last(self, made: int) -> None:
        """What the daemon sent while it stopped is on its way; a record that never comes is lost."""
        counts = self.rig.dispatch.reader.counts
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIT_WITHIN_S):
                while counts.accounted < made:
                    await asyncio.sleep(0.05)
                    counts = self.rig.dispatch.reader.counts

    async def _coverage(self, item: CoverageItem) -> None:
        if item.covered:
            await self._lift()
        elif self._cut_at_s is None:
            self._cut_at_s = asyncio.get_running_loop().time()
            self._tell("coverage lost: the broker is out of reach", "bold red")
            await self.rig.proxy.cut()

    async def _lift(self) -> None:
        if self._cut_at_s is not None:
            await self.rig.proxy.lift()
            self._outages_s.append((self._cut_at_s, asyncio.get_running_loop().time()))
            self._cut_at_s = None
            self._tell("coverage is back", "bold green")

    def _see_truth(self, item: TruthItem) -> None:
        if self._truth is not None and self._truth.has_fix != item.has_fix:
            came_out = "out of the tunnel" if self._was_inside else "the receiver sees the sky"
            self._tell(came_out if item.has_fix else "into a tunnel", "dim")
            self._was_inside = not item.has_fix
        self._truth = item


def _expected_statuses(keys: list[str]) -> list[str]:
    """What dispatch should have of these presses: a key pressed again is no new status."""
    statuses: list[str] = []
    for key in keys:
        if key != "emergency" and (not statuses or statuses[-1] != key):
            statuses.append(key)
    return statuses
