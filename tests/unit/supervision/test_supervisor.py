"""Restarts, budgets and the watchdog, in simulated time."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Coroutine
from itertools import pairwise
from typing import Any

import pytest

from agent import config
from agent.domain.health import HealthBoard, HealthReason
from agent.hal.errors import DeviceNotFoundError
from agent.supervision import watchdog
from agent.supervision.service_manager import ServiceManager
from agent.supervision.supervisor import BudgetSpentError, Progress, Supervisor, Unit
from hil.sim.virtual_loop import VirtualLoop

SETTINGS = config.Supervision(
    backoff_min_s=1, backoff_max_s=30, restart_budget=3, restart_window_s=300, progress_timeout_s=20
)


def simulated(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def supervisor() -> Supervisor:
    return Supervisor(SETTINGS, HealthBoard(), random.Random(1))


def test_an_absent_device_is_retried_with_growing_pauses_for_ever() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        attempts: list[float] = []

        async def absent(_: Progress) -> None:
            attempts.append(loop.time())
            raise DeviceNotFoundError("/dev/gnss0", "no such device")

        kept = supervisor()
        kept.start(Unit("gnss", absent))
        await asyncio.sleep(600)
        assert kept.laggards() == []  # waiting for a device is no hang
        await kept.stop(["gnss"], 1)
        return attempts

    attempts = simulated(main())
    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert 0.5 <= pauses[0] <= 1
    assert all(15 <= pause <= 30 for pause in pauses[6:])
    assert len(attempts) > 20


def test_a_defect_spends_the_budget_and_ends_the_agent() -> None:
    async def main() -> None:
        health = HealthBoard()
        kept = Supervisor(SETTINGS, health, random.Random(1))

        async def defective(_: Progress) -> None:
            raise ZeroDivisionError

        kept.start(Unit("telemetry", defective))
        with pytest.raises(BudgetSpentError, match="telemetry failed 4 times"):
            await kept.failed()
        assert HealthReason.UNIT_RESTARTED in health.reasons()
        await kept.stop(["telemetry"], 1)

    simulated(main())


def chained() -> Exception:
    """A lack of descriptors behind another fault, as libraries hide it."""
    error = RuntimeError("the decoder could not be made")
    error.__cause__ = OSError(errno.EMFILE, "Too many open files")
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENFILE, "Too many open files in system"),
        ExceptionGroup("parts", [OSError(errno.EMFILE, "Too many open files")]),
        chained(),
    ],
)
def test_a_lack_of_descriptors_is_a_named_state_and_spends_no_budget(error: Exception) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        health = HealthBoard()
        kept = Supervisor(SETTINGS, health, random.Random(1))
        attempts: list[float] = []

        async def opens_a_file(progress: Progress) -> None:
            attempts.append(loop.time())
            if len(attempts) < 20:
                raise error
            while True:
                progress()
                await asyncio.sleep(1)

        kept.start(Unit("can", opens_a_file))
        await asyncio.sleep(120)
        assert health.reasons() == (HealthReason.NO_DESCRIPTORS,)
        assert "can: " in health.details()[HealthReason.NO_DESCRIPTORS]
        assert kept.laggards() == []
        assert attempts[-1] - attempts[-2] >= 15, "with a back-off"
        await asyncio.sleep(1200)
        assert len(attempts) == 20
        assert health.reasons() == ()
        await kept.stop(["can"], 1)

    simulated(main())


def test_a_device_may_be_absent_for_days() -> None:
    async def main() -> int:
        attempts = 0

        async def absent(_: Progress) -> None:
            nonlocal attempts
            attempts += 1
            raise DeviceNotFoundError("/dev/gnss0", "no such device")

        kept = supervisor()
        kept.start(Unit("gnss", absent))
        await asyncio.sleep(24 * 3600)
        assert kept.laggards() == []
        assert kept.states()["gnss"].startswith("waiting: /dev/gnss0")
        await kept.stop(["gnss"], 1)
        return attempts

    assert simulated(main()) > 2000


def test_a_unit_that_swallowed_its_own_cancellation_is_started_again() -> None:
    async def main() -> None:
        health = HealthBoard()
        kept = Supervisor(SETTINGS, health, random.Random(1))
        runs = 0

        async def odd(progress: Progress) -> None:
            nonlocal runs
            runs += 1
            if runs == 1:
                raise asyncio.CancelledError
            while True:
                progress()
                await asyncio.sleep(1)

        kept.start(Unit("odd", odd))
        await asyncio.sleep(60)
        assert runs == 2
        assert health.reasons() == (HealthReason.UNIT_RESTARTED,)
        await asyncio.sleep(300)
        assert health.reasons() == ()
        await kept.stop(["odd"], 1)

    simulated(main())


def test_defects_that_are_rare_never_end_the_agent() -> None:
    async def main() -> None:
        kept = supervisor()

        async def defective_now_and_then(progress: Progress) -> None:
            for _ in range(150):
                progress()
                await asyncio.sleep(1)
            raise ZeroDivisionError

        kept.start(Unit("telemetry", defective_now_and_then))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4000):
                await kept.failed()
        await kept.stop(["telemetry"], 1)

    simulated(main())


def test_the_watchdog_starves_when_one_unit_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        fed: list[float] = []
        monkeypatch.setattr(ServiceManager, "alive", lambda _: fed.append(loop.time()))
        kept = supervisor()

        async def well(progress: Progress) -> None:
            while True:
                progress()
                await asyncio.sleep(1)

        async def hangs_after_a_minute(progress: Progress) -> None:
            for _ in range(60):
                progress()
                await asyncio.sleep(1)
            await asyncio.Event().wait()

        kept.start(Unit("well", well))
        kept.start(Unit("hangs", hangs_after_a_minute))
        feeding = loop.create_task(watchdog.feed(ServiceManager({"WATCHDOG_USEC": "30000000"}), kept))
        await asyncio.sleep(200)
        assert kept.laggards() == ["hangs"]
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        await kept.stop(["well", "hangs"], 1)
        return fed

    fed = simulated(main())
    assert fed[0] == 0
    assert 70 <= fed[-1] <= 90


def test_what_a_unit_finds_wrong_in_a_file_ends_the_agent_at_once() -> None:
    async def main() -> None:
        async def misconfigured(_: Progress) -> None:
            raise config.ConfigError(["vehicle.toml: dbc: no such message"])

        kept = supervisor()
        kept.start(Unit("can", misconfigured))
        with pytest.raises(config.ConfigError, match="no such message"):
            await kept.failed()
        assert asyncio.get_running_loop().time() < 1  # starting it again does not mend a file

    simulated(main())
