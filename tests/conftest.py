"""Rules for every test: nothing leaks."""

from __future__ import annotations

import asyncio
import asyncio.runners
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from hil.process.leftovers import leftover_agents

# Timing claims live in the benchmarks; and the same tree gives the same result, run after run.
settings.register_profile("quick", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

CHECKOUT = Path(__file__).resolve().parents[1]
FEEDS = CHECKOUT.parent / "shared" / "feeds"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Name an agent that another run left behind, before it eats what this run's devices say."""
    if not hasattr(session.config, "workerinput") and (left := leftover_agents()):
        named = "\n  ".join(map(str, left))
        pytest.exit(f"agents of an earlier run would take this run's devices; end them:\n  {named}", 3)


@pytest.fixture(scope="session")
def checkout() -> Path:
    """Root of the checkout."""
    return CHECKOUT


@pytest.fixture(scope="session")
def feeds() -> Path:
    """Folder of the recorded feeds; the test is skipped where they are absent."""
    if not FEEDS.is_dir():
        pytest.skip("the recorded feeds are not on this machine")
    return FEEDS


@pytest.fixture(autouse=True)
def nothing_leaks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail the test that leaves a thread or an asyncio task behind."""
    leaked_tasks: list[str] = []
    cancel_all = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]  # the one place that sees them

    def cancel_and_remember(loop: asyncio.AbstractEventLoop) -> None:
        # asyncio.run() cancels what is left when its main coroutine returned: that is the leak to see.
        leaked_tasks.extend(task.get_name() for task in asyncio.all_tasks(loop))
        cancel_all(loop)

    monkeypatch.setattr(asyncio.runners, "_cancel_all_tasks", cancel_and_remember)
    before = set(threading.enumerate())
    yield
    # Generous: what ends by itself ends at once, and a busy machine takes its time over it.
    deadline = time.monotonic() + 6
    while leaked := [thread for thread in threading.enumerate() if thread not in before]:
        if time.monotonic() > deadline:
            pytest.fail(f"threads leaked: {[thread.name for thread in leaked]}")
        leaked[0].join(0.05)
    if leaked_tasks:
        pytest.fail(f"tasks leaked: {leaked_tasks}")
