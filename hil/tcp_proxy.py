"""A network that can be hurt: a TCP proxy on loopback between the agent and its broker.

It cuts, refuses, delays, throttles and black-holes, and is lifted again. It never alters, drops or reorders
bytes within a connection: what a black hole swallowed goes on when it is lifted, as TCP would send it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Self

_CHUNK_BYTES = 16_384
_RECEIVE_BUFFER_BYTES = 65_536
_HELD_CHUNKS = 16
"""What a direction holds while bytes may not pass (256 KiB, like a modem); then TCP stops the sender."""


@dataclass(frozen=True, slots=True)
class Weather:
    """What the network does to bytes.

    Attributes:
        delay_s: one-way delay.
        jitter_s: up to this much more, at random; bytes stay in order.
        bytes_per_s: bandwidth of each direction and connection; None for no limit.
        black_hole: nothing arrives any more, in either direction, and nobody is told.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float | None = None
    black_hole: bool = False


CLEAR = Weather()


class TcpProxy:
    """The proxy inside a running loop. For use from other threads or without a loop see `ProxyThread`.

    Attributes:
        connections: how many were ever accepted.
        bytes_up: bytes passed on to the broker.
        bytes_down: bytes passed on from it.
    """

    def __init__(self, upstream_host: str, upstream_port: int, *, seed: int = 0) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.connections = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self._upstream = (upstream_host, upstream_port)
        self._rng = random.Random(seed)
        self._weather = CLEAR
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._pairs: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    async def start(self) -> None:
        """Listen; the port is chosen the first time and kept. Raises OSError."""
        if self._server is None:
            listener = socket.create_server((self.host, self.port))
            # Accepted connections inherit it: the kernel must not take in megabytes that a network would not.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
            self._server = await asyncio.start_server(self._accept, sock=listener)
            self.port = listener.getsockname()[1]

    async def stop(self) -> None:
        """End all connections and stop listening. Idempotent."""
        await self.cut()

    async def cut(self, *, reset: bool = True) -> None:
        """End all connections (by RST, or in an orderly way) and refuse new ones until `lift`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.drop_connections(reset=reset)

    async def lift(self) -> None:
        """Back to a network without faults."""
        self.set_weather(CLEAR)
        await self.start()

    async def drop_connections(self, *, reset: bool = True) -> None:
        """End all connections; new ones are taken."""
        pairs = dict(self._pairs)
        for task, writers in pairs.items():
            for writer in writers:
                _close(writer, reset=reset)
            task.cancel()
        if pairs:
            await asyncio.wait(pairs)
            await asyncio.sleep(0)  # transports close in the loop's next round

    def redirect(self, upstream_host: str, upstream_port: int) -> None:
        """Where new connections lead from now on."""
        self._upstream = (upstream_host, upstream_port)

    def set_weather(self, weather: Weather) -> None:
        """What happens to bytes from now on, of open and of new connections."""
        self._weather = weather
        self._changed.set()
        self._changed = asyncio.Event()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # accepted by the kernel just before the cut
            _close(writer, reset=True)
            return
        self.connections += 1
        ends = [writer]
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer, ends), name="proxied")
        self._pairs[task] = ends
        task.add_done_callback(lambda done: self._pairs.pop(done, None))

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: list[asyncio.StreamWriter]
    ) -> None:
        try:
            await self._relay(reader, writer, ends)
        except* OSError:
            _close(writer, reset=True)
        finally:
            for end in ends:
                _close(end, reset=False)

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: list[asyncio.StreamWriter]
    ) -> None:
        while self._weather.black_hole:
            await self._changed.wait()
        far_reader, far_writer = await asyncio.open_connection(*self._upstream)
        ends.append(far_writer)
        for end in ends:
            end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.TaskGroup() as group:
            self._pump(group, reader, far_writer, self._count_up)
            self._pump(group, far_reader, writer, self._count_down)

    def _count_up(self, count: int) -> None:
        self.bytes_up += count

    def _count_down(self, count: int) -> None:
        self.bytes_down += count

    def _pump(
        self,
        group: asyncio.TaskGroup,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        count: Callable[[int], None],
    ) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_HELD_CHUNKS)
        group.create_task(self._take_in(reader, queue))
        group.create_task(self._give_out(queue, writer, count))

    async def _take_in(self, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]]) -> None:
        loop = asyncio.get_running_loop()
        due = 0.0
        while True:
            try:
                data = await reader.read(_CHUNK_BYTES)
            except OSError:
                data = b""
            w = self._weather
            due = max(due, loop.time() + w.delay_s + self._rng.uniform(0.0, w.jitter_s))
            await queue.put((due, data))
            if not data:
                return

    async def _give_out(
        self,
        queue: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
        count: Callable[[int], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await queue.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            while self._weather.black_hole:
                await self._changed.wait()
            if not data:
                with contextlib.suppress(OSError):
                    writer.write_eof()  # the other direction may go on
                return
            rate = self._weather.bytes_per_s
            if rate is not None:
                await asyncio.sleep(len(data) / rate)
            writer.write(data)
            count(len(data))
            await writer.drain()


def _close(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    if reset:
        with contextlib.suppress(OSError):
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    elif not writer.is_closing():
        writer.close()


class ProxyThread:
    """A `TcpProxy` on a loop and thread of its own, steered by blocking calls from any thread."""

    def __init__(self, upstream_host: str, upstream_port: int, *, seed: int = 0) -> None:
        self.proxy = TcpProxy(upstream_host, upstream_port, seed=seed)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def host(self) -> str:
        """Where it listens."""
        return self.proxy.host

    @property
    def port(self) -> int:
        """Where it listens, known once started."""
        return self.proxy.port

    def start(self) -> None:
        """Start the thread and listen. Raises OSError."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy")
        self._thread.start()
        try:
            self._call(self.proxy.start)
        except OSError:
            self.stop()
            raise

    def stop(self) -> None:
        """End everything. Idempotent."""
        if self._loop is None or self._thread is None:
            return
        self._call(self.proxy.stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None

    def cut(self, *, reset: bool = True) -> None:
        """See `TcpProxy.cut`."""
        self._call(lambda: self.proxy.cut(reset=reset))

    def lift(self) -> None:
        """See `TcpProxy.lift`."""
        self._call(self.proxy.lift)

    def drop_connections(self, *, reset: bool = True) -> None:
        """See `TcpProxy.drop_connections`."""
        self._call(lambda: self.proxy.drop_connections(reset=reset))

    def set_weather(self, weather: Weather) -> None:
        """See `TcpProxy.set_weather`."""

        async def change() -> None:
            self.proxy.set_weather(weather)

        self._call(change)

    def _call(self, work: Callable[[], Coroutine[object, object, None]]) -> None:
        if self._loop is None:
            raise RuntimeError("the proxy is not started")
        asyncio.run_coroutine_threadsafe(work(), self._loop).result(10)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
