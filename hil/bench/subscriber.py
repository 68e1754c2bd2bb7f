"""Somebody who is subscribed to everything: without one, a broker has nobody for a record."""

from __future__ import annotations

import contextlib
import socket
import threading

_CONNECT = b"\x10\x13\x00\x04MQTT\x04\x02\x00\x00\x00\x07lookout"
"""MQTT 3.1.1, clean session, no keep-alive."""
_SUBSCRIBE = b"\x82\x06\x00\x01\x00\x01#\x00"
"""To everything, at most once."""
_ANSWERS_BYTES = 4 + 5
_WITHIN_S = 10.0
_READ_BYTES = 1 << 18


class Subscriber:
    """A thread that reads and forgets; as cheap as a subscriber can be."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=_WITHIN_S)
        self._socket.sendall(_CONNECT + _SUBSCRIBE)
        answers = b""
        while len(answers) < _ANSWERS_BYTES:
            answers += self._socket.recv(_ANSWERS_BYTES - len(answers)) or b"\0" * _ANSWERS_BYTES
        self._socket.settimeout(None)
        self._thread = threading.Thread(target=self._read, name="subscriber")
        self._thread.start()

    def close(self) -> None:
        """Leave. Idempotent."""
        with contextlib.suppress(OSError):  # the broker was faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        buffer = bytearray(_READ_BYTES)
        with contextlib.suppress(OSError):  # the broker was killed
            while self._socket.recv_into(buffer):
                pass
