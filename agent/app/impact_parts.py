"""The impact recorder: its rule, its recorder with a worker, and its health reason, wired together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from agent import __version__
from agent.app.platform import Platform
from agent.config import Config, Impact
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.impact import ImpactLimits, ImpactWatch
from agent.domain.record import Draft, RecordingKept
from agent.domain.time_base import TimeBase
from agent.domain.vehicle import Signal
from agent.hal.clock import Clock
from agent.outbox.outbox import Outbox
from agent.recorder.kept_recordings import KeptRecordings
from agent.recorder.moment_recorder import IMPACT, MomentRecorder
from agent.recorder.recording_format import CAN_TOPIC_PREFIX

if TYPE_CHECKING:
    from agent.sources.can.can_decoder import CanDecoder
    from agent.sources.can.vehicle_bus import FrameTap


class ImpactParts:
    """Watches for impacts and keeps what was around them.

    Args:
        settings: when it is an impact, and how much is kept.
        config: the whole file, for identity and folder.
        platform: gives the worker.
        context: fields of `RecordingKept` that hold now.
    """

    def __init__(
        self,
        settings: Impact,
        config: Config,
        platform: Platform,
        *,
        clock: Clock,
        time_base: TimeBase,
        health: HealthBoard,
        outbox: Outbox,
        context: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._clock = clock
        self._time_base = time_base
        self._health = health
        self._outbox = outbox
        self._worker = platform.worker("impact")
        self._watch = ImpactWatch(ImpactLimits(settings.acceleration_mps2, settings.speed_step_mps))
        self.kept = KeptRecordings(config.kept_recordings, settings.keep)
        self.recorder = MomentRecorder(
            self.kept,
            clock,
            self._worker,
            metadata={"unit": f"{config.unit.agency}/{config.unit.unit}", "agent_version": __version__},
            before_s=settings.before_s,
            after_s=settings.after_s,
            announce=self._announce,
            context=context,
            on_problem=self._on_problem,
        )

    def tap(self, bus: str, decoder_of: Callable[[], CanDecoder | None]) -> FrameTap:
        """What takes the frames of a bus."""
        from agent.sources.can.impact_tap import ImpactTap

        return ImpactTap(decoder_of, partial(self.recorder.frames, CAN_TOPIC_PREFIX + bus), self.on_signals)

    def on_signals(self, signals: Sequence[Signal]) -> None:
        """Look for an impact in signals at the rate of their source."""
        impact = self._watch.take(signals)
        if impact is not None:
            self.recorder.keep(IMPACT, impact.why, impact.at_ns)

    def told(self, signals: Sequence[Signal]) -> None:
        """Take signals as the rest of the agent gets them, into what is kept."""
        if signals:
            values = {signal.name: signal.value for signal in signals}
            self.recorder.signals(values, signals[-1].received_boottime_ns)

    def keep(self, trigger: str, why: str) -> None:
        """Keep the seconds around now: the crew's word, or dispatch's."""
        self.recorder.keep(trigger, why, self._clock.boottime_ns())

    async def close(self) -> None:
        """Release the worker, once the recorder's `run` has ended."""
        await self._worker.close()

    async def _announce(self, body: RecordingKept, at_ns: int) -> object:
        return await self._outbox.put(Draft(self._time_base.stamp(at_ns), body))

    def _on_problem(self, problem: str | None) -> None:
        if problem is None:
            self._health.clear(HealthReason.RECORDING_NOT_KEPT)
        else:
            self._health.raise_(HealthReason.RECORDING_NOT_KEPT, problem)
