"""The black box: a recorder with its worker and its health reason."""

from __future__ import annotations

from agent import __version__
from agent.app.platform import Platform
from agent.config import Config
from agent.domain.health import HealthBoard, HealthReason
from agent.hal.clock import Clock
from agent.recorder.recorder import Recorder
from agent.recorder.recording_files import RecordingFiles, RotatingFiles

_MIB = 1024 * 1024


class BlackBox:
    """A recorder with a worker of its own, and its health reason."""

    def __init__(
        self,
        config: Config,
        platform: Platform,
        clock: Clock,
        health: HealthBoard,
        *,
        files: RecordingFiles | None = None,
    ) -> None:
        """Store the arguments; `files` instead of the configuration's rotating set."""
        self._health = health
        self._worker = platform.worker("recorder")
        if files is None:
            if config.recorder is None:
                raise ValueError("the configuration has no [recorder]")
            files = RotatingFiles(
                config.recorder.directory,
                budget_bytes=config.recorder.budget_mib * _MIB,
                file_bytes=config.recorder.file_mib * _MIB,
            )
        self.recorder = Recorder(
            files,
            clock,
            self._worker,
            metadata={
                "unit": f"{config.unit.agency}/{config.unit.unit}",
                "agent_version": __version__,
            },
            on_problem=self._on_problem,
        )

    async def close(self) -> None:
        """Release the worker, once the recorder's `run` has ended."""
        await self._worker.close()

    def _on_problem(self, problem: str | None) -> None:
        if problem is None:
            self._health.clear(HealthReason.RECORDER_STOPPED)
        else:
            self._health.raise_(HealthReason.RECORDER_STOPPED, problem)
