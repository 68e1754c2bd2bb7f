"""The orderly stop: in stages, each with a deadline that nothing stretches, and an end that always comes."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading
from collections.abc import Awaitable, Collection

from agent.runtime.log import EventLog

log = EventLog("stop")

THREADS_END_WITHIN_S = 1.0
"""How long threads that should have been joined may still take once everything else is over."""


async def stage(name: str, work: Awaitable[object], deadline_s: float) -> bool:
    """One stage of the stop: whatever becomes of it, the next one follows in time.

    Work that is late is cancelled and left behind: it may be what does not hear, or waits for a disk that
    never answers.

    Returns:
        Whether it was done, in time and without an error.
    """
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait({task}, timeout=max(0.0, deadline_s))
    if not done:
        task.cancel()
        task.add_done_callback(_look_at)
        # What hears its cancellation gets the chance to tidy up; what does not has had its time.
        await asyncio.sleep(0)
        log.error("stop_stage_late", stage=name, deadline_s=deadline_s)
        return False
    if task.cancelled() or (error := task.exception()) is not None:
        error = None if task.cancelled() else error
        log.error("stop_stage_failed", stage=name, error=error or "cancelled", exc=error)
        return False
    return True


def _look_at(task: asyncio.Future[object]) -> None:
    """Take the result of work that was left behind, so that nobody complains that nobody did."""
    if not task.cancelled():
        task.exception()


def end_within(seconds: float) -> None:
    """End this process in `seconds`, whatever it does then; where each thread stood goes to standard error.

    For a stop that hangs beyond all cancelling: a thread that nobody can join, a loop that waits for a task
    that does not hear. The exit code is then 1. A later call takes the place of this one.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)


def end_threads(code: int, *, spare: Collection[threading.Thread] = ()) -> int:
    """After everything was stopped: end at once if a thread is left that would hold the process up.

    Args:
        code: the exit code.
        spare: threads that were there before, and are none of ours.

    Returns:
        `code`, when no such thread is left; `end_within` is called off then.
    """
    left = [
        thread
        for thread in threading.enumerate()
        if thread not in spare and not thread.daemon and thread is not threading.current_thread()
    ]
    for thread in left:
        thread.join(THREADS_END_WITHIN_S / len(left))
    names = [thread.name for thread in left if thread.is_alive()]
    if names:
        log.error("threads_left", names=",".join(names))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    faulthandler.cancel_dump_traceback_later()
    return code
