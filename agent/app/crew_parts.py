"""Presses, the run around them, and the crew's page, wired together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.config import Config
from agent.domain.crew import EMERGENCY
from agent.domain.health import TOLD_APART, HealthBoard, HealthReason
from agent.domain.odometer import OdometerReading
from agent.domain.places import Places, places_from_geojson
from agent.domain.record import Stream
from agent.domain.sun import is_night
from agent.domain.time_base import TimeBase
from agent.hal.buttons import SYSTEM_LAMP, Lamp
from agent.hal.clock import Clock
from agent.outbox.outbox import Outbox
from agent.paths.crew_path import CrewPath
from agent.paths.run_log import RunLog
from agent.paths.run_memory import RunMemory
from agent.paths.run_path import RunPath
from agent.paths.state_sink import StateSink
from agent.runtime.worker import Worker
from agent.supervision.panel_socket import Action, PanelSocket
from agent.supervision.supervisor import Unit
from agent.uplink.commands import KEPT_PER_S, Command
from agent.wire import orders

if TYPE_CHECKING:
    from agent.paths.buzzer_path import BuzzerPath

MOST_PLACES_BYTES = 4 << 20


class CrewParts:
    """Everything that serves the crew.

    Args:
        config: the agent's.
        clock: boot time.
        time_base: derives UTC.
        health: gets what is wrong with the places file or the page's socket; shown on the page.
        outbox: where records go.
        states: where states are published.
        connected: whether a broker has us.
        signals: newest vehicle signals by name.
        odometer: what the odometer says, None where that is not known.
        worker: writes what of the run a restart must know.
        on_crossing: called when the unit came to a known place or left it.
        more_actions: what else the crew's page may ask for, by its word.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        time_base: TimeBase,
        health: HealthBoard,
        *,
        outbox: Outbox,
        states: StateSink,
        connected: Callable[[], bool],
        signals: Callable[[], Mapping[str, Any]],
        odometer: Callable[[], OdometerReading | None],
        worker: Worker,
        on_crossing: Callable[[], None],
        more_actions: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._time_base = time_base
        self._health = health
        self._outbox = outbox
        self._connected = connected
        crew = config.crew
        self.buzzer = None if config.buzzer is None else _buzzer(config, clock, time_base)
        self._memory = RunMemory(config.store.directory / "run.json", worker, health)
        self.run = RunPath(
            crew,
            config.unit.unit,
            read_places(config.places.file, health),
            clock,
            time_base,
            records=outbox,
            states=states,
            on_change=self._changed,
            signals=signals,
            odometer=odometer,
            newest_seq=lambda: outbox.last_seq(Stream.EVENTS),
            keep=self._memory.keep,
            on_crossing=on_crossing,
        )
        self.presses = CrewPath(
            config.buttons.keys,
            clock,
            time_base,
            outbox,
            states,
            context=self.run,
            undo_s=crew.undo_s,
            receipts=config.uplink.confirm == "dispatch",
            silent=crew.emergency_silent,
            on_change=self._changed,
            system=self._system_lamp,
        )
        if self.buzzer is not None:
            self.presses.attach(self.buzzer)
            self.run.calls.on_call = self.buzzer.call
        self.run.listen(self.presses.publish)
        self.times = RunLog(outbox, time_base, crew.codes)
        self._more_actions = more_actions or {}
        self._socket = PanelSocket(config.panel_socket, self.page, self.actions(), health=health)
        health.listen(self._changed)

    async def open(self) -> None:
        """Take up what was true before a restart: first the call, then presses, which may end it."""
        self.run.open(await self._memory.read())
        await self.presses.open()

    async def close(self) -> None:
        """Give up waiting for the disk, and write once more what a restart must know."""
        await self.presses.close()
        await self._memory.close()

    def units(self) -> Sequence[Unit]:
        """What runs beside the presses' own unit."""
        return [Unit("run", self.run.run), Unit("panel", self._socket.run)]

    def commands(self) -> Sequence[Command]:
        """What dispatch may tell the crew."""
        calls, corrections = self.run.calls, self.presses.corrections
        return [
            Command(name, decode, handle, KEPT_PER_S)
            for name, decode, handle in (
                ("assign", orders.decode_assign, calls.on_assign),
                ("update", orders.decode_update, calls.on_update),
                ("cancel", orders.decode_cancel, calls.on_cancel),
                ("message", orders.decode_message, calls.on_message),
                ("crew", orders.decode_sign_on, self.run.aboard.on_sign_on),
                ("answer", orders.decode_answer, corrections.on_answer),
                ("amend", orders.decode_amend, corrections.on_amend),
                ("cancel-emergency", orders.decode_cancel_emergency, self.presses.on_cancel_emergency),
            )
        ]

    def actions(self) -> dict[str, Action]:
        """What the crew's page may ask for, by its word: the one table of them (docs/panel.md)."""
        presses = self.presses.actions(self._config.crew.emergency_cancel_code)
        return {**self.run.actions(), **presses, **self._more_actions}

    def page(self) -> dict[str, Any]:
        """What the crew's page shows, JSON-able (docs/panel.md)."""
        position, now_ns = self.run.position, self._clock.boottime_ns()
        utc = self._time_base.utc(now_ns)
        night = (
            position is not None
            and utc is not None
            and is_night(utc.unix_ms, position.lat_deg, position.lon_deg)
        )
        waiting = self._outbox.last_seq(Stream.EVENTS) - self._outbox.confirmed(Stream.EVENTS)
        return {
            **self.run.snapshot(),
            **self.presses.page(self._config.panel.tiles),
            "link": {"connected": self._reaches_dispatch()},
            "gnss": {"fix": self.run.has_fix},
            "backlog": {"presses": waiting},
            "health": [
                {"reason": str(reason), "text": reason.sentence}
                for reason in self._health.reasons()
                if reason not in TOLD_APART
            ],
            "night": night,
            "sound": None if self.buzzer is None else self.buzzer.page(),
            "receipts": self._config.uplink.confirm == "dispatch",
        }

    def _reaches_dispatch(self) -> bool:
        return self._connected() and HealthReason.NO_SUBSCRIBER not in self._health.reasons()

    def _system_lamp(self) -> Lamp:
        """Dark is for an agent that is dead: all well is lit, and what is not blinks."""
        if any(reason not in TOLD_APART for reason in self._health.reasons()):
            return Lamp.NOT_STORED
        return Lamp.DELIVERED if self._reaches_dispatch() else Lamp.REFUSED

    def _changed(self) -> None:
        # Parts call it while they are being made, before there is a socket to tell.
        socket = getattr(self, "_socket", None)
        if socket is not None:
            socket.changed()


def _buzzer(config: Config, clock: Clock, time_base: TimeBase) -> BuzzerPath:
    from agent.paths.buzzer_path import BuzzerPath

    assert config.buzzer is not None
    silent = [key for key, meaning in config.buttons.keys.items() if meaning == EMERGENCY]
    # Of the whole nothing is heard: a link that comes and goes would sound all the way.
    return BuzzerPath(config.buzzer, [*silent, SYSTEM_LAMP], clock, time_base)


def read_places(file: Path | None, health: HealthBoard) -> Places:
    """The places of a file. What can not be read is a health reason: presses do not wait for a map."""
    if file is None:
        return Places()
    try:
        with file.open("rb") as opened:
            text = opened.read(MOST_PLACES_BYTES)  # what is cut off there is no JSON any more
        places, problems = places_from_geojson(json.loads(text.decode("utf-8-sig")))
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        health.raise_(HealthReason.PLACES_FAULTY, f"{file.name}: {why}")
        return Places()
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        health.raise_(HealthReason.PLACES_FAULTY, f"{file.name}: {problems[0]}{more}")
    return places
