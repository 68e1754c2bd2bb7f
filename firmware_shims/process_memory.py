"""How the C library hands out memory to this process."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8
"""mallopt(3), glibc."""


def one_malloc_arena() -> None:
    """Let all threads allocate from one arena. Call it before any thread is started.

    glibc gives each thread an arena of its own, against contention that Python's own lock does not let arise;
    what one thread frees the others can not use. With another C library this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
