"""Runs one scenario on one rig."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hil.broker_process import BrokerOptions
from hil.drive.items import CoverageItem, Drive, TimedItem, TruthItem
from hil.drive.player import Player
from hil.drive.timeline import NS
from hil.process.process_rig import ProcessRig
from hil.process.vehicle_config import merged
from hil.rig import CLEAR, NetworkCondition, Rig, RigKind, RigState, Sample, Strategy
from hil.scenario.expectation import Expectation, Verdict
from hil.scenario.fault import Fault, Site
from hil.scenario.observation import FaultSpan, Observation
from hil.scenario.scenario_drive import load_drive, with_presses
from hil.scenario.scenario_file import Scenario
from hil.scenario.wiring import Wiring
from hil.sim.sim_rig import SimRig
from hil.sim.virtual_loop import VirtualLoop

SAMPLES = 600
"""About so many samples are taken in a run, at least one in `SAMPLE_MIN_S`."""
SAMPLE_MIN_S = 0.5
MEMORY_DISK = Path("/dev/shm")  # noqa: S108  # only as a parent of a private folder


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a scenario.

    Attributes:
        name: of the scenario's file.
        scenario: as it was run.
        seen: everything that was observed.
        verdicts: each expectation with what was found.
    """

    name: str
    scenario: Scenario
    seen: Observation
    verdicts: tuple[tuple[Expectation, Verdict], ...]

    @property
    def held(self) -> bool:
        """True when every expectation held."""
        return all(verdict.held for _, verdict in self.verdicts)


class CoverageLost(Fault):
    """The drive leaves the reach of the radio network."""

    cuts_off = True
    kind: Literal["coverage_lost"] = "coverage_lost"


def run_scenario(
    scenario: Scenario,
    name: str,
    folder: Path,
    *,
    rig: RigKind | None = None,
    seed: int | None = None,
    directory: Path | None = None,
) -> Outcome:
    """Run a scenario and judge it.

    Args:
        scenario: what to run.
        name: its name.
        folder: where its file lies.
        rig: one of the scenario's; without it its first.
        seed: instead of the scenario's own.
        directory: where the rig keeps its files; without it a folder that is removed.

    Raises:
        ConfigError: the drive or the configuration of the vehicle is wrong.
        BrokerUnavailableError: the process rig has no broker here.
    """
    kind = rig or scenario.rigs[0]
    seed = scenario.seed if seed is None else seed
    with tempfile.TemporaryDirectory(
        prefix="mdt-scenario-", dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None
    ) as private:
        run = _Run(scenario, folder, kind, seed, directory or Path(private))
        factory = VirtualLoop if kind == "sim" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            seen = runner.run(run.go())
    verdicts = [(one, one.check(seen)) for one in scenario.expect if kind in one.rigs]
    return Outcome(name, scenario, seen, tuple(verdicts))


class _Run:
    """One run."""

    def __init__(self, scenario: Scenario, folder: Path, kind: RigKind, seed: int, directory: Path) -> None:
        self._scenario = scenario
        self._kind = kind
        self._seed = seed
        self._directory = directory
        self._speed = 1.0 if kind == "sim" else scenario.speed
        self._drive: Drive = load_drive(scenario, folder, seed)
        self._truth: list[TruthItem] = []
        self._spans: list[FaultSpan] = []
        self._samples: list[Sample] = []
        self._began_s = 0.0
        self._uncovered_s: float | None = None
        self._rig: Rig
        self._wiring: Wiring
        self._strategy: Strategy

    async def go(self) -> Observation:
        """Build up, drive, hurt, deliver, take down."""
        loop = asyncio.get_running_loop()
        wall = asyncio.get_running_loop().time()
        async with self._build() as rig:
            self._rig, self._wiring, self._strategy = rig, Wiring(rig), Strategy(rig)
            await self._strategy.to(RigState.RUNNING)
            await self._strategy.to(RigState.DRIVING)
            # Planned before the clock starts: on a busy machine it takes seconds; all times were off by them.
            items = with_presses(self._drive.items(), self._scenario.presses)
            self._began_s = loop.time()
            sampling = loop.create_task(self._sample(), name="scenario-samples")
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._play(items), name="scenario-drive")
                    for number, fault in enumerate(self._scenario.faults):
                        group.create_task(self._hurt(fault, number), name=f"fault-{fault.name}")
                await self._cover()
                drive_over_s = loop.time()
                delivered = await rig.wait_delivered(self._scenario.deliver_s)
                states = dict(rig.dispatch.states)
                self._samples.append(await rig.sample())
            finally:
                sampling.cancel()
                with suppress(asyncio.CancelledError):
                    await sampling
            await self._strategy.to(RigState.OFF)
            made = rig.made()
            delivered = await self._last_arrivals(sum(made.values())) and delivered
            return Observation(
                title=self._scenario.title,
                rig=self._kind,
                seed=self._seed,
                drive_name=self._drive.name,
                start_utc_ms=self._drive.start_utc_ms,
                began_s=self._began_s,
                speed=self._speed,
                truth=self._truth,
                faults=sorted(self._spans, key=lambda span: span.from_s),
                presses=rig.presses.presses,
                arrivals=rig.dispatch.arrivals,
                state_history=rig.dispatch.state_history,
                states=states,
                refused=rig.dispatch.refused,
                counts=rig.dispatch.reader.counts,
                samples=self._samples,
                rig_history=self._strategy.history,
                made=made,
                delivered=delivered,
                starts=rig.starts,
                drive_over_s=drive_over_s,
                daemon_ends_s=rig.daemon_ends_s,
                boot_began_s=rig.boots(),
                digest=getattr(rig, "digest", ""),
                wall_s=loop.time() - wall,
                agent_log=getattr(rig, "agent_log", ""),
            )

    def _build(self) -> Rig:
        config = self._scenario.config
        if self._kind == "sim":
            return SimRig(
                self._directory, unix_ms=self._drive.start_utc_ms, seed=self._seed, overrides=config
            )
        # A broker that is to lose what it acknowledged must not save it at once.
        forgetful = any(fault.name == "broker_kill" for fault in self._scenario.faults)
        return ProcessRig(
            self._directory,
            seed=self._seed,
            overrides=merged({"clock": {"replay": self._speed != 1}}, config),
            broker_options=BrokerOptions(save_on_changes=not forgetful),
        )

    async def _play(self, items: Iterator[TimedItem]) -> None:
        until_s = self._scenario.until_s
        sinks = self._wiring.sinks() | {TruthItem: self._truth.append}
        if self._scenario.coverage:
            sinks[CoverageItem] = self._coverage
        player = Player(
            sinks, speed=self._speed, from_ns=0, until_ns=None if until_s is None else round(until_s * NS)
        )
        await player.play(items)

    async def _hurt(self, fault: Fault, number: int) -> None:
        loop = asyncio.get_running_loop()
        site = Site(self._rig, self._wiring, random.Random(f"{self._seed}/fault/{number}"))
        await asyncio.sleep(self._began_s + fault.at_s / self._speed - loop.time())
        self._strategy.fault_applied()
        from_s = loop.time()
        try:
            await fault.apply(site)
            await asyncio.sleep(max(0.0, from_s + fault.for_s / self._speed - loop.time()))
            await fault.lift(site)
        finally:
            await site.end_tasks()
        self._strategy.fault_lifted()
        self._spans.append(self._span(fault, from_s))

    def _span(self, fault: Fault, from_s: float) -> FaultSpan:
        to_s = asyncio.get_running_loop().time()
        return FaultSpan(
            fault,
            from_s,
            to_s,
            (from_s - self._began_s) * self._speed,
            (to_s - self._began_s) * self._speed,
        )

    async def _coverage(self, item: CoverageItem) -> None:
        if item.covered:
            await self._cover()
        elif self._uncovered_s is None:
            self._uncovered_s = asyncio.get_running_loop().time()
            self._strategy.fault_applied()
            await self._rig.set_network(NetworkCondition(cut=True))

    async def _cover(self) -> None:
        if self._uncovered_s is not None:
            from_s, self._uncovered_s = self._uncovered_s, None
            await self._rig.set_network(CLEAR)
            self._strategy.fault_lifted()
            at_s = (from_s - self._began_s) * self._speed
            self._spans.append(self._span(CoverageLost(at_s=at_s), from_s))

    async def _sample(self) -> None:
        drive_s = self._scenario.until_s or self._drive.duration_s
        every_s = max(SAMPLE_MIN_S, drive_s / self._speed / SAMPLES)
        while True:
            self._samples.append(await self._rig.sample())
            await asyncio.sleep(every_s)

    async def _last_arrivals(self, made: int) -> bool:
        """What the daemon sent while it stopped is still on its way."""
        reader = self._rig.dispatch.reader
        with suppress(TimeoutError):
            async with asyncio.timeout(3):
                while reader.counts.accounted < made or reader.counts.holes_open:
                    await asyncio.sleep(0.05)
        return not reader.counts.holes_open
