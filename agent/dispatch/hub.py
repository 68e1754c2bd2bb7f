"""Who is looking now: every page gets the same events, and one that can not keep up begins anew."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

WAITING = 500
"""Events that may wait for one page."""
HEARTBEAT_S = 5.0


class Hub:
    """Server-sent events to any number of pages. Used from the event loop only."""

    def __init__(self) -> None:
        self._pages: set[asyncio.Queue[str | None]] = set()
        self._closed = False

    @property
    def pages(self) -> int:
        """How many are looking."""
        return len(self._pages)

    def tell(self, event: str, data: Any) -> None:
        """Send to everybody."""
        if not self._pages:
            return
        text = frame(event, data)
        for page in list(self._pages):
            if page.qsize() >= WAITING:
                self._pages.discard(page)
                page.put_nowait(None)
            else:
                page.put_nowait(text)

    async def follow(self, snapshot: Callable[[], Any]) -> AsyncIterator[str]:
        """The frames for one page: the whole picture, then what changes, with a heartbeat in silence."""
        page: asyncio.Queue[str | None] = asyncio.Queue()
        if self._closed:
            return
        self._pages.add(page)
        try:
            yield frame("snapshot", snapshot())
            while True:
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        text = await page.get()
                except TimeoutError:
                    text = frame("heartbeat", {})
                if text is None:
                    return
                yield text
        finally:
            self._pages.discard(page)

    def close(self) -> None:
        """Send everybody away."""
        self._closed = True
        for page in self._pages:
            page.put_nowait(None)
        self._pages.clear()


def frame(event: str, data: Any) -> str:
    """One event as the standard has it; JSON has no line breaks of its own."""
    return f"event: {event}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
