"""Runs in a process of its own: the real outbox, publisher and link on a prepared store.

Lines in: "drain" (send all that waits, answer with what it took), "press N" (put N presses one after the
other, answer with the milliseconds from put to PUBACK of each); JSON lines out. The other end is
`hil.bench.peer_process.Contender`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agent import config
from agent.domain.health import HealthBoard
from agent.domain.record import Stream
from agent.outbox.outbox import Outbox
from agent.uplink.link.paho_link import PahoLink
from agent.uplink.publisher import Publisher
from agent.wire.topics import Topics
from firmware_shims.system_clock import SystemClock
from hil.bench.opened_outbox import opened_outbox
from hil.bench.process_cost import memory_mib
from hil.bench.trail import press

UNPACED_BYTES_PER_S = 10**9
PRESS_EVERY_S = 0.05
"""Apart, as presses are: each finds whatever the backlog is just doing."""


def main() -> None:
    """Answer until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--unpaced", action="store_true")
    asyncio.run(_serve(parser.parse_args()))


async def _serve(args: argparse.Namespace) -> None:
    broker = config.Broker(host="127.0.0.1", port=args.port, allow_plaintext=True)
    pace: dict[str, Any] = {"drain_bytes_per_s": UNPACED_BYTES_PER_S} if args.unpaced else {}
    settings = config.Uplink(brokers=(broker,), **pace)
    async with opened_outbox(args.store) as outbox:
        uplink = _Uplink(outbox, settings)
        commands: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
            "drain": uplink.drain,
            "press": uplink.press,
        }
        _say({"ready": True})
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_end)
        try:
            while line := await loop.run_in_executor(None, sys.stdin.readline):
                word, *rest = line.split()
                _say(await commands[word](*map(int, rest)))
        finally:
            await uplink.stop()


class _Uplink:
    """The publisher over an outbox; it starts with the first command."""

    def __init__(self, outbox: Outbox, settings: config.Uplink) -> None:
        self._outbox = outbox
        self._clock = SystemClock()
        self._publisher = Publisher(
            settings,
            Topics("bench", f"B{os.getpid()}"),
            outbox,
            PahoLink(),
            self._clock,
            HealthBoard(),
            rng=random.Random(1),
        )
        self._running: asyncio.Task[None] | None = None
        self._landed = asyncio.Event()
        outbox.on_confirmed(lambda *_: self._landed.set())

    async def drain(self) -> dict[str, Any]:
        """Send everything."""
        first, last = self._outbox.confirmed(Stream.TRAIL), self._outbox.last_seq(Stream.TRAIL)
        idle_mib = memory_mib(os.getpid())
        begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
        self._start()
        await self._until(Stream.TRAIL, last)
        return {
            "records": last - first,
            "wall_s": time.perf_counter() - begun_s,
            "cpu_s": time.process_time() - begun_cpu_s,
            "idle_mib": idle_mib,
            "peak_mib": memory_mib(os.getpid(), "VmHWM"),
        }

    async def press(self, count: int) -> dict[str, Any]:
        """Press, and wait for the PUBACK."""
        self._start()
        took_ms = []
        for number in range(count):
            await asyncio.sleep(PRESS_EVERY_S)
            begun_s = time.perf_counter()
            seq = await self._outbox.put(press(number, self._clock.boottime_ns()))
            await self._until(Stream.EVENTS, seq)
            took_ms.append((time.perf_counter() - begun_s) * 1000)
        waiting = self._outbox.last_seq(Stream.TRAIL) - self._outbox.confirmed(Stream.TRAIL)
        return {"took_ms": took_ms, "waiting": waiting}

    async def stop(self) -> None:
        """End the connection."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            await self._publisher.drain(0.5)

    def _start(self) -> None:
        if self._running is None:
            self._running = asyncio.create_task(self._publisher.run(lambda: None))

    async def _until(self, stream: Stream, seq: int) -> None:
        while self._outbox.confirmed(stream) < seq:
            self._landed.clear()
            await self._landed.wait()


def _end(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A fault inside a callback would leave everybody waiting for ever."""
    loop.default_exception_handler(context)
    os._exit(1)


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
