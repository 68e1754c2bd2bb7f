"""The embedded broker: `python -m hil.embedded_broker --port N` serves MQTT 3.1.1 on loopback.

amqtt reads a whole CONNECT before it looks at the protocol level; one of MQTT 5, whose properties it takes
for lengths, leaves it waiting for bytes that never come. Here the level is looked at first, and any but that
of 3.1.1 is refused with CONNACK 1 at once, as the standard demands (MQTT 3.1.1, 3.1.2.2).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys

from amqtt.adapters import ReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig

_CONNECT = 0x10
_LEVEL_3_1_1 = 4
_CONNACK_UNACCEPTABLE_VERSION = b"\x20\x02\x00\x01"
_FIRST_BYTES_WITHIN_S = 10.0


class _Remainder(ReaderAdapter):  # type: ignore[misc]  # amqtt has no type information
    """A stream whose beginning was read already."""

    def __init__(self, beginning: bytes, reader: asyncio.StreamReader) -> None:
        self._beginning = beginning
        self._reader = reader

    async def read(self, n: int = -1) -> bytes:
        """As many bytes as asked for. Raises asyncio.IncompleteReadError at the end of the stream."""
        if n < 0:
            return self._beginning + await self._reader.read()
        taken, self._beginning = self._beginning[:n], self._beginning[n:]
        return taken if len(taken) == n else taken + await self._reader.readexactly(n - len(taken))

    def feed_eof(self) -> None:
        """The broker is done with the stream."""
        self._reader.feed_eof()


class _LevelCheckingBroker(Broker):  # type: ignore[misc]  # amqtt has no type information
    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """Look at the protocol level, then let amqtt go on."""
        try:
            beginning, level = await asyncio.wait_for(_beginning_of_connect(reader), _FIRST_BYTES_WITHIN_S)
        except (asyncio.IncompleteReadError, TimeoutError, OSError):
            writer.close()
            return
        if level not in (None, _LEVEL_3_1_1):
            writer.write(_CONNACK_UNACCEPTABLE_VERSION)
            writer.close()
            return
        await self.external_connected(
            _Remainder(beginning, reader), StreamWriterAdapter(writer), listener_name
        )


async def _beginning_of_connect(reader: asyncio.StreamReader) -> tuple[bytes, int | None]:
    """What was read of a CONNECT, and its protocol level; None when it is something else."""
    read = await reader.readexactly(1)
    if read[0] != _CONNECT:
        return read, None
    for _ in range(4):  # remaining length, 1 to 4 bytes
        read += await reader.readexactly(1)
        if read[-1] < 0x80:
            break
    name_length = await reader.readexactly(2)
    read += name_length + await reader.readexactly(int.from_bytes(name_length, "big") + 1)
    return read, read[-1]


async def serve(port: int) -> None:
    """Serve until SIGTERM or SIGINT. Raises OSError when the port can not be bound."""
    configuration = BrokerConfig(
        listeners={"default": ListenerConfig(bind=f"127.0.0.1:{port}")},
        plugins={"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    )
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    broker = _LevelCheckingBroker(configuration, loop=loop)
    await broker.start()
    await stopped.wait()
    await broker.shutdown()


def main(arguments: list[str]) -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m hil.embedded_broker", description="An MQTT 3.1.1 broker on loopback, until SIGTERM."
    )
    parser.add_argument("--port", type=int, required=True)
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(serve(parser.parse_args(arguments).port))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
