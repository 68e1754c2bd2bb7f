"""The worker's thread: order, urgency, failures, joining."""

from __future__ import annotations

import asyncio
import threading

import pytest

from agent.runtime.worker import ThreadWorker


def test_work_runs_in_the_one_owned_thread() -> None:
    async def scenario() -> set[str]:
        worker = ThreadWorker("card")
        try:
            return {await worker.run(lambda: threading.current_thread().name) for _ in range(3)}
        finally:
            await worker.close()

    assert asyncio.run(scenario()) == {"card"}


def test_urgent_work_overtakes_what_waits() -> None:
    async def scenario() -> list[str]:
        worker = ThreadWorker()
        order: list[str] = []
        started, go = threading.Event(), threading.Event()

        def hold() -> None:
            started.set()
            assert go.wait(10)

        holding = asyncio.create_task(worker.run(hold))
        while not started.is_set():
            await asyncio.sleep(0)
        later = [asyncio.create_task(worker.run(lambda n=n: order.append(f"read {n}"))) for n in range(3)]  # type: ignore[misc]  # default argument
        await asyncio.sleep(0)
        press = asyncio.create_task(worker.run(lambda: order.append("press"), urgent=True))
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(holding, *later, press)
        await worker.close()
        return order

    assert asyncio.run(scenario()) == ["press", "read 0", "read 1", "read 2"]


def test_a_failure_reaches_the_caller_and_the_thread_lives_on() -> None:
    async def scenario() -> int:
        worker = ThreadWorker()

        def fail() -> None:
            raise LookupError("nothing there")

        with pytest.raises(LookupError, match="nothing there"):
            await worker.run(fail)
        try:
            return await worker.run(lambda: 5)
        finally:
            await worker.close()

    assert asyncio.run(scenario()) == 5


def test_work_of_a_cancelled_caller_is_done_all_the_same() -> None:
    async def scenario() -> list[int]:
        worker = ThreadWorker()
        done: list[int] = []
        task = asyncio.create_task(worker.run(lambda: done.append(1)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await worker.close()
        return done

    assert asyncio.run(scenario()) == [1]


def test_close_finishes_joins_and_may_be_repeated() -> None:
    async def scenario() -> None:
        worker = ThreadWorker()
        running = asyncio.create_task(worker.run(lambda: "done"))
        await asyncio.sleep(0)
        await worker.close()
        await worker.close()
        assert await running == "done"
        with pytest.raises(RuntimeError, match="closed"):
            await worker.run(lambda: None)

    before = threading.active_count()
    asyncio.run(scenario())
    assert threading.active_count() == before


def test_a_worker_never_used_has_no_thread() -> None:
    async def scenario() -> None:
        await ThreadWorker().close()

    before = threading.active_count()
    asyncio.run(scenario())
    assert threading.active_count() == before
