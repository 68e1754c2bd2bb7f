"""The network that can be hurt: it loses connections, never bytes within one."""

from __future__ import annotations

import asyncio
import random

import pytest

from hil.tcp_proxy import CLEAR, ProxyThread, TcpProxy, Weather


class Rig:
    """An echo server behind a proxy; closes all that was opened."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Rig:
        self._server = await asyncio.start_server(self._echo, "127.0.0.1", 0)
        self.proxy = TcpProxy("127.0.0.1", self._server.sockets[0].getsockname()[1], seed=self._seed)
        await self.proxy.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.proxy.stop()
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        await asyncio.sleep(0)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self.proxy.host, self.proxy.port)
        self._writers.append(writer)
        return reader, writer

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while data := await reader.read(10_000):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # cut on purpose
        finally:
            writer.close()
            self._tasks.discard(task)


def test_bytes_arrive_unaltered_whatever_the_weather() -> None:
    async def work() -> None:
        async with Rig(seed=3) as rig:
            sent = random.Random(1).randbytes(2_000_000)
            reader, writer = await rig.connect()

            async def send() -> None:
                for start in range(0, len(sent), 7919):
                    writer.write(sent[start : start + 7919])
                    await writer.drain()
                writer.write_eof()

            async def change() -> None:
                for weather in (
                    Weather(black_hole=True),
                    Weather(delay_s=0.01, jitter_s=0.03),
                    Weather(black_hole=True),
                    Weather(bytes_per_s=20_000_000.0),
                    Weather(delay_s=0.02),
                    CLEAR,
                ):
                    rig.proxy.set_weather(weather)
                    await asyncio.sleep(0.05)

            sending, changing = asyncio.create_task(send()), asyncio.create_task(change())
            assert await reader.read(-1) == sent
            await asyncio.gather(sending, changing)
            assert rig.proxy.bytes_up == rig.proxy.bytes_down == len(sent)

    asyncio.run(work())


def test_throttle_and_delay_are_kept() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        async with Rig() as rig:
            reader, writer = await rig.connect()
            for weather, size, least_s in (
                (Weather(delay_s=0.1), 1, 0.2),
                (Weather(bytes_per_s=100_000.0), 30_000, 0.3),
            ):
                rig.proxy.set_weather(weather)
                began = loop.time()
                writer.write(b"x" * size)
                await reader.readexactly(size)
                assert least_s <= loop.time() - began < least_s + 1.0

    asyncio.run(work())


def test_cut_resets_and_refuses_until_lifted() -> None:
    async def work() -> None:
        async with Rig() as rig:
            port = rig.proxy.port
            reader, writer = await rig.connect()
            writer.write(b"a")
            assert await reader.read(1) == b"a"
            await rig.proxy.cut()
            with pytest.raises(ConnectionResetError):
                await reader.read(1)
            with pytest.raises(ConnectionRefusedError):
                await rig.connect()
            await rig.proxy.lift()
            assert rig.proxy.port == port
            await rig.connect()

    asyncio.run(work())


def test_broker_that_is_away_shows_as_a_reset() -> None:
    with ProxyThread("127.0.0.1", 1) as proxy:

        async def work() -> None:
            # The reset may come so soon that connecting itself already fails with it.
            with pytest.raises(ConnectionResetError):
                await connect_and_read()

        async def connect_and_read() -> None:
            reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
            try:
                await reader.read(1)
            finally:
                writer.close()
                await asyncio.sleep(0)

        asyncio.run(work())
        proxy.stop()
        proxy.stop()


def test_proxy_that_is_not_started_says_so() -> None:
    with pytest.raises(RuntimeError):
        ProxyThread("127.0.0.1", 1).cut()
