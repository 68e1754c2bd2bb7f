"""A broker that answers every client with "not authorised"."""

from __future__ import annotations

import asyncio
import contextlib

_MQTT_5 = 5
_NOT_AUTHORISED = {True: b"\x20\x03\x00\x87\x00", False: b"\x20\x02\x00\x05"}
"""CONNACK of MQTT 5 (3.2.2.2) and of MQTT 3.1.1 (3.2.2.3)."""
_FIRST_BYTES_WITHIN_S = 5.0


class RefusingBroker:
    """Listens on loopback. Used from one event loop."""

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on a port of the system's choice. Raises OSError."""
        self._server = await asyncio.start_server(self._refuse, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening. Idempotent."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(_FIRST_BYTES_WITHIN_S):
                head = await reader.readexactly(2)
                while head[-1] >= 0x80:  # a remaining length of more than one byte
                    head += await reader.readexactly(1)
                # Length and letters of the protocol's name, then its level.
                name = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                level = (await reader.readexactly(1))[0]
                writer.write(_NOT_AUTHORISED[name == b"MQTT" and level == _MQTT_5])
                await writer.drain()
        writer.close()
