"""A sensor that is asked now and then: waiting, thread and closing, so that a driver only reads."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from agent.hal.clock import Clock
from agent.hal.errors import DeviceLostError
from agent.hal.samples import Sample

CLOSE_TIMEOUT_S = 2.0


class PolledSensor(ABC):
    """A `SampleFeed` whose driver gives `take`. Used from the event loop only.

    `take` runs on a thread of its own, because a sensor may take its time (a 1-wire probe 0.75 s) and a
    driver in the kernel more.

    Args:
        name: the device as configured, for messages.
        clock: stamps the samples.
        interval_s: from the end of one reading to the beginning of the next.
    """

    def __init__(self, name: str, clock: Clock, interval_s: float) -> None:
        self._name = name
        self._clock = clock
        self._interval_s = interval_s
        self._thread: ThreadPoolExecutor | None = None
        self._taking: Future[Sequence[Sample]] | None = None
        self._next_at_s = 0.0

    @abstractmethod
    def take(self) -> Sequence[Sample]:
        """Read the sensor once; runs on the thread. Empty when it is there and had no reading this time.

        Raises:
            HardwareError: it is not there, or went away.
        """

    @property
    def name(self) -> str:
        """The device as configured."""
        return self._name

    async def open(self) -> None:
        """Begin to ask; the first reading is due at once. Whether the sensor is there shows in `read`."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sensor")
            self._next_at_s = 0.0

    async def read(self) -> Sequence[Sample]:
        """Wait for the next reading. Safe to cancel: a reading under way is given to the next call.

        Raises HardwareError.
        """
        loop = asyncio.get_running_loop()
        while True:
            if self._taking is None:
                await asyncio.sleep(max(self._next_at_s - loop.time(), 0))
                if self._thread is None:
                    raise DeviceLostError(self._name, "not open")
                self._taking = self._thread.submit(self.take)
            taking = self._taking
            try:
                samples = await asyncio.shield(asyncio.wrap_future(taking))
            finally:
                if taking.done():
                    self._taking = None
            self._next_at_s = loop.time() + self._interval_s
            if samples:
                return samples

    async def close(self) -> None:
        """Ask no more. Idempotent, never raises; a reading that hangs is left to its thread."""
        thread, self._thread = self._thread, None
        taking, self._taking = self._taking, None
        if thread is not None:
            thread.shutdown(wait=False, cancel_futures=True)
        if taking is not None and not taking.cancelled():
            with suppress(Exception):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await asyncio.shield(asyncio.wrap_future(taking))
