"""What dispatch and fleet services may tell the vehicle, wired to the parts that do it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from agent import __version__
from agent.app.patches import Patches
from agent.config import Config
from agent.config.patch import PatchError
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.readiness import Ready, Subject
from agent.domain.record import Draft, Readiness
from agent.domain.time_base import TimeBase
from agent.hal.clock import Clock
from agent.outbox.fault import OutboxClosedError
from agent.outbox.outbox import Outbox
from agent.paths.file_sender import FileSender, is_plain_name, listing
from agent.paths.fix_path import FixPath
from agent.paths.fleet_commands import Asked, Doing, FleetCommands, Result, accepted, done, refused
from agent.paths.run_memory import RunMemory
from agent.paths.signal_demand import SignalDemand
from agent.runtime.log import EventLog
from agent.runtime.worker import Worker
from agent.supervision.supervisor import Unit
from agent.uplink.commands import Command
from agent.uplink.pacing import Allowance
from agent.uplink.publisher import Publisher
from agent.wire.fleet_orders import (
    ConfigPatch,
    Fetch,
    Keep,
    Restart,
    Seen,
    ServiceDone,
    SetRate,
    SignalsWanted,
)
from agent.wire.reader_request import RefusalReason
from agent.wire.time_text import utc_text

log = EventLog("fleet")

STANDS_S: Final = 5.0
"""A connection that stood for so long, with its states taken, confirms a change of the configuration."""
ANSWER_FIRST_S: Final = 1.0
"""The answer to a restart goes out before it."""
TICK_S: Final = 1.0
MOST_BUNDLES: Final = 2
MANY_STARTS: Final = 4
MOST_RESTARTS: Final = 6
RESTARTS_WITHIN_S: Final = 3_600
"""Restarts by command; a change of the configuration is one. The unit is away for seconds each time."""
MOST_LISTED: Final = 40
REPORT_BYTES: Final = 2_600
"""Of a device's own report: with its frame it goes into a packet that every broker takes."""
_RATE = "set-rate"
_REPORTED: Final = (
    "version", "health", "clock", "config", "starts", "computer", "backlog", "vehicle_events", "buses",
    "link", "commands",
)  # fmt: skip
"""What of the status goes into a report, the most wanted first; never where the unit is, nor the crew."""


class FleetParts:
    """Commands to the vehicle, and the change of the configuration that is on trial. Event loop only.

    Args:
        config: the agent's.
        clock: boot time.
        time_base: derives UTC.
        health: gets what can not be kept.
        outbox: where records go.
        publisher: the uplink; asked for when it is needed.
        fixes: reports of the position.
        signals: newest vehicle signals by name.
        status: what the daemon thinks of itself.
        bundle: everything for a bundle, by what was asked.
        seen: takes dispatch's word that it has seen a record of the events: journal, number, id.
        patches: what is changed from afar; None where the configuration is in no file.
        worker: writes what must be known after a restart. Not closed here.
        errands: reads files and makes bundles; closed here.
        restart: starts the agent anew.
        service_done: begins a maintenance counter anew: which one, and who says so. Raises ValueError for one
            that there is not.
        readiness: how the unit stands at the beginning of a shift.
        keep: keeps the seconds around now: on whose word, and why; None without an impact recorder.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        time_base: TimeBase,
        health: HealthBoard,
        *,
        outbox: Outbox,
        publisher: Callable[[], Publisher],
        fixes: Callable[[], FixPath],
        signals: Callable[[], Mapping[str, Any]],
        status: Callable[[], Mapping[str, Any]],
        bundle: Callable[[], Awaitable[Mapping[str, Any]]],
        seen: Callable[[int, int, str], None],
        patches: Patches | None,
        worker: Worker,
        errands: Worker,
        restart: Callable[[], None],
        service_done: Callable[[str, str], None] | None = None,
        keep: Callable[[str, str], None] | None = None,
        readiness: Callable[[], Sequence[Subject]] = tuple,
    ) -> None:
        self._config = config
        self._clock = clock
        self._time_base = time_base
        self._health = health
        self._outbox = outbox
        self._publisher = publisher
        self._fixes = fixes
        self._status = status
        self._bundle = bundle
        self._seen = seen
        self._patches = patches
        self._worker = worker
        self._errands = errands
        self._restart = restart
        self._service_done = service_done
        self._keep = keep
        self._readiness = readiness
        self._had_crew = False
        self._is_open = False
        self._bundles_may = Allowance(1 / 60, 2)
        self._restarts: list[int] = []
        self._picture: Mapping[str, Any] = {}
        self.starts = 1
        """How often the agent was started in this boot, but for restarts by command."""
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._memory = RunMemory(
            config.store.directory / "commands.json",
            worker,
            health,
            reason=HealthReason.COMMANDS_NOT_KEPT,
            closes_worker=False,
        )
        self._commands = FleetCommands(
            self._doings(),
            config.commands.allowed,
            records=outbox,
            answers=publisher,
            clock=clock,
            time_base=time_base,
            keep=self._remember,
        )
        self._demand = SignalDemand(signals, publisher, self._utc_ms, self._commands.finish)
        self._files = FileSender(publisher, errands, config.commands.fetch_bytes_per_s, self._commands.finish)

    def _doings(self) -> dict[str, Doing]:
        return {
            "ping": Doing(self._ping, changes=False, per_s=1, burst=16),
            "report-now": Doing(self._report_now, changes=False, per_s=2, burst=64),
            "diagnostics": Doing(self._diagnostics, changes=False, per_s=0.1, burst=8),
            _RATE: Doing(self._set_rate),
            "signals": Doing(self._signals),
            "service": Doing(self._service),
            "config": Doing(self._config_patch, per_s=1 / 60, burst=6),
            "restart": Doing(self._restart_by, per_s=1 / 120, burst=3),
            "fetch": Doing(self._fetch, changes=False, per_s=0.2),
            "keep": Doing(self._keep_recording, burst=8),
            "acknowledge": Doing(self._acknowledge, burst=32),
        }

    # ------------------------------------------------------------------ for the daemon

    def rows(self) -> Sequence[Command]:
        """The rows of the uplink's table."""
        return self._commands.rows()

    def units(self) -> Sequence[Unit]:
        """What runs beside the rest."""
        return [
            Unit("commands", self._commands.run),
            Unit("signals-on-demand", self._demand.run),
            Unit("fetch", self._files.run),
            *([Unit("config-trial", self._try)] if self._on_trial else []),
        ]

    async def open(self) -> None:
        """Take up what was true before a restart, and tell what it ended."""
        remembered = await self._memory.read()
        unfinished = {asked.id: asked for asked in self._commands.open(remembered)}
        by_command = any(asked.name in ("restart", "config") for asked in unfinished.values())
        self._count_start(remembered, by_command=by_command)
        patches = self._patches
        if patches is not None:
            if patches.left_out:
                self._health.raise_(HealthReason.PATCH_LEFT_OUT, patches.left_out)
            for under_way in (patches.trial, patches.verdict):
                asked = None if under_way is None else unfinished.pop(under_way.id, None)
                if under_way is patches.trial:
                    self._on_trial_asked = asked
                elif asked is not None:
                    self._tell_verdict(asked)
            if patches.verdict is not None:
                await self._write(patches.told)
        for asked in unfinished.values():
            self._commands.finish(asked, _ended_by_restart(asked.name))
        self._is_open = True

    def on_crew(self, crew: Sequence[str] | None) -> None:
        """Who is aboard; with the first of them a shift begins, and the journal has how the unit stood."""
        begins, self._had_crew = bool(crew) and not self._had_crew, bool(crew)
        if not begins or not self._is_open:
            return  # a crew that was aboard before a restart began its shift then
        subjects = self._readiness()
        bad = tuple(one.name for one in subjects if one.ready is Ready.BAD)
        unknown = tuple(one.name for one in subjects if one.ready is Ready.UNKNOWN)
        stamp = self._time_base.stamp(self._clock.boottime_ns())
        try:
            self._outbox.stage(Draft(stamp, Readiness(not bad, bad, unknown)))
        except OutboxClosedError:
            log.error("record_not_stored", body="Readiness")

    def _count_start(self, remembered: Mapping[str, Any], *, by_command: bool) -> None:
        same_boot = remembered.get("boot_id") == self._clock.boot_id
        before = remembered.get("starts") if same_boot else 0
        known = before if type(before) is int and 0 <= before < 1 << 31 else 0
        given = remembered.get("restarts") if same_boot else None
        self._restarts = [at for at in given if type(at) is int] if isinstance(given, list) else []
        self.starts = max(1, known + (not by_command))
        self._remember({"commands": remembered.get("commands") or []})
        if self.starts >= MANY_STARTS:
            self._health.raise_(
                HealthReason.AGENT_RESTARTED, f"{self.starts} times since the computer started"
            )

    def _remember(self, picture: Mapping[str, Any]) -> None:
        self._picture = picture
        more = {"boot_id": self._clock.boot_id, "starts": self.starts, "restarts": self._restarts}
        self._memory.keep({**picture, **more})

    async def close(self) -> None:
        """Keep what a restart must know; the worker that writes it is closed by its owner."""
        for timer in self._timers.values():
            timer.cancel()
        await self._memory.close()
        await self._errands.close()

    def snapshot(self) -> dict[str, Any]:
        """What is changed from afar, for `mdt status`."""
        return {} if self._patches is None else self._patches.snapshot()

    # ------------------------------------------------------------------ commands

    def _ping(self, _: Any, __: Asked) -> Result:
        utc_ms = self._utc_ms()
        return done(
            result=json.dumps(
                {
                    "version": __version__,
                    "up_s": self._clock.boottime_ns() // 1_000_000_000,
                    "utc": None if utc_ms is None else utc_text(utc_ms),
                }
            )
        )

    def _report_now(self, _: Any, __: Asked) -> Result:
        self._fixes().tell_next()
        self._publisher().tell_states()
        return accepted()

    def _diagnostics(self, _: Any, __: Asked) -> Result:
        return done(result=report(self._status()))

    def _set_rate(self, wanted: SetRate, _: Asked) -> Result:
        self._fixes().hurry(_RATE, wanted.every_s)
        if _RATE in self._timers:
            self._timers[_RATE].cancel()
        self._timers[_RATE] = asyncio.get_running_loop().call_later(
            wanted.for_s, lambda: self._fixes().hurry(_RATE, None)
        )
        bounds = self._config.reporting.bounds()
        if wanted.every_s >= max(bounds.max_age_s, bounds.parked_max_age_s):
            return done("it is reported more often than that already")
        return done()

    def _signals(self, wanted: SignalsWanted, asked: Asked) -> Result:
        return self._demand.ask(wanted, asked)

    def _service(self, order: ServiceDone, asked: Asked) -> Result:
        if self._service_done is None:
            return refused(RefusalReason.NOTHING_THERE, "this vehicle counts nothing for its maintenance")
        try:
            self._service_done(order.item, asked.by or "fleet services")
        except ValueError as error:
            return refused(RefusalReason.NOTHING_THERE, str(error))
        return done()

    def _keep_recording(self, order: Keep, _: Asked) -> Result:
        if self._keep is None:
            return refused(RefusalReason.NOT_ALLOWED, "no [impact] is configured")
        self._keep("dispatch", order.why or "dispatch asked for it")
        return done("the journal tells of the recording when it is whole")

    def _acknowledge(self, seen: Seen, asked: Asked) -> Result:
        if seen.journal != self._outbox.journal:
            return refused(RefusalReason.OTHER_JOURNAL)
        self._seen(seen.journal, seen.seq, asked.id)
        return done()

    def _may_restart(self) -> bool:
        """Whether one more restart may be asked for: each start would refill a limit that is not kept."""
        now_s = self._clock.boottime_ns() // 1_000_000_000
        self._restarts = [at for at in self._restarts if 0 <= now_s - at < RESTARTS_WITHIN_S]
        if len(self._restarts) >= MOST_RESTARTS:
            return False
        self._restarts.append(now_s)
        self._remember(self._picture)
        return True

    async def _restart_by(self, order: Restart, asked: Asked) -> Result:
        if not self._may_restart():
            return refused(RefusalReason.BUSY, f"{MOST_RESTARTS} restarts an hour at most")
        log.warning("restart", by=asked.by or "", why=order.reason or "")
        await self._memory.flush()  # or the same command would restart the agent for ever
        self._restart_soon()
        return accepted("it restarts now")

    def _restart_soon(self) -> None:
        loop = asyncio.get_running_loop()
        self._timers["restart"] = loop.call_later(ANSWER_FIRST_S, self._restart)

    async def _config_patch(self, order: ConfigPatch, asked: Asked) -> Result:
        patches = self._patches
        if patches is None:
            return refused(RefusalReason.NOTHING_THERE, "this agent runs without a file")
        if not self._may_restart():
            return refused(RefusalReason.BUSY, f"{MOST_RESTARTS} restarts an hour at most")
        await self._memory.flush()
        try:
            await self._worker.run(partial(patches.propose, asked.id, order.patch, order.confirm_within_s))
        except PatchError as error:
            return refused(RefusalReason.NOT_PATCHABLE, str(error)[:300])
        except OSError as error:
            return refused(RefusalReason.STORE_FAULT, error.strerror)
        self._restart_soon()
        return accepted("on trial; it restarts now, and tells once the link is back")

    async def _fetch(self, order: Fetch, asked: Asked) -> Result:
        if order.name is None and order.what == "recording":
            files = await self._errands.run(self._recordings)
            newest = listing(files)[-MOST_LISTED:]
            while len(json.dumps(newest)) > REPORT_BYTES:
                newest = newest[1:]
            return done(result=json.dumps({"files": newest, "of": len(files)}))
        if order.name is not None and not is_plain_name(order.name):
            return refused(RefusalReason.NOTHING_THERE, "no such file")
        if order.name is None:
            if not self._bundles_may.take(asyncio.get_running_loop().time()):
                return refused(RefusalReason.BUSY, "a bundle a minute at most: it takes the log together")
            path = await self._new_bundle()
        else:
            found = await self._errands.run(self._recordings if order.what == "recording" else self._bundles)
            names = (order.name, f"{order.name}.mcap")
            path = next((one for one in found if one.name in names), None)
        if path is None:
            return refused(RefusalReason.NOTHING_THERE, "no such file")
        return self._files.send(asked, path, order.offset) or accepted(
            result=json.dumps({"name": path.name, "size": path.stat().st_size})
        )

    # ------------------------------------------------------------------ files

    def _recordings(self) -> list[Path]:
        folders = [self._config.kept_recordings]
        if self._config.recorder is not None:
            folders.append(self._config.recorder.directory)
        return [path for folder in folders for path in _files(folder, "*.mcap*")]

    def _bundles(self) -> list[Path]:
        return _files(self._config.store.directory / "bundles", "*.tar.gz")

    async def _new_bundle(self) -> Path | None:
        if self._patches is None:
            return None
        answers, config_path = await self._bundle(), self._patches.path
        name = f"bundle-{self._clock.boot_id[:8]}-{self._clock.boottime_ns() // 1_000_000}.tar.gz"

        def make() -> Path:
            from agent.app.bundle import write_bundle

            folder = self._config.store.directory / "bundles"
            folder.mkdir(exist_ok=True)
            for old in sorted(self._bundles(), key=lambda one: one.stat().st_mtime_ns)[: 1 - MOST_BUNDLES]:
                old.unlink(missing_ok=True)
            write_bundle(folder / name, config_path, answers)
            return folder / name

        return await self._errands.run(make)

    # ------------------------------------------------------------------ a change on trial

    _on_trial_asked: Asked | None = None

    @property
    def _on_trial(self) -> bool:
        return self._patches is not None and self._patches.trial is not None

    async def _try(self, progress: Callable[[], None]) -> None:
        """The unit of a trial: the change holds once the link stands under it, and goes if it does not."""
        patches = self._patches
        assert patches is not None
        loop = asyncio.get_running_loop()
        trial, began = patches.trial, loop.time()
        while trial is not None:
            progress()
            if self._publisher().stands_for_s >= STANDS_S:
                await self._write(patches.confirm)
                log.info("patch_confirmed", id=trial.id)
                break
            if loop.time() - began > trial.within_s:
                why = f"the link did not come back within {trial.within_s:g} s"
                log.error("patch_rolled_back", id=trial.id, why=why)
                if await self._write(partial(patches.roll_back, why)):
                    self._restart()
                    break
            await asyncio.sleep(TICK_S)
        if patches.verdict is not None and not patches.verdict.why:
            if self._on_trial_asked is not None:
                self._tell_verdict(self._on_trial_asked)
            await self._write(patches.told)
        while True:
            progress()
            await asyncio.sleep(10 * TICK_S)

    def _tell_verdict(self, asked: Asked) -> None:
        verdict = None if self._patches is None else self._patches.verdict
        if verdict is not None and verdict.why:
            self._commands.finish(asked, refused(RefusalReason.ROLLED_BACK, verdict.why[:300]))
        elif verdict is not None:
            self._commands.finish(asked, done("the link stood under it: it holds"))

    async def _write(self, write: Callable[[], None]) -> bool:
        try:
            await self._worker.run(write)
        except OSError as error:
            log.error("patch_not_kept", why=error.strerror)
            return False
        return True

    def _utc_ms(self) -> int | None:
        utc = self._time_base.utc(self._clock.boottime_ns())
        return None if utc is None else utc.unix_ms


def report(status: Mapping[str, Any]) -> str:
    """The device's own report as JSON: what of the status fits, and the names of what did not."""
    table: dict[str, Any] = {}
    left_out: list[str] = []
    for name in _REPORTED:
        if name not in status:
            continue
        fits = len(json.dumps({**table, name: status[name], "left_out": left_out})) <= REPORT_BYTES
        if fits:
            table[name] = status[name]
        else:
            left_out.append(name)
    return json.dumps({**table, "left_out": left_out})


def _files(folder: Path, pattern: str) -> list[Path]:
    return [path for path in folder.glob(pattern) if is_plain_name(path.name)]


def _ended_by_restart(name: str) -> Result:
    if name == "restart":
        return done("it was started anew")
    if name == "config":
        return refused(RefusalReason.FAILED, "the agent ended before it could be tried")
    return done("ended by a restart of the agent")
