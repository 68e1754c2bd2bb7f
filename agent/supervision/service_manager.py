"""Telling systemd how we are (sd_notify protocol)."""

from __future__ import annotations

import contextlib
import os
import socket


class ServiceManager:
    """Speaks to systemd when it started us; otherwise does nothing.

    Its socket is opened once and kept: a moment without a free descriptor must not starve the watchdog.

    Attributes:
        watchdog_interval_s: how often systemd must hear from us, None without a watchdog.
    """

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        env = dict(os.environ) if environment is None else environment
        self._address = env.get("NOTIFY_SOCKET", "")
        usec = env.get("WATCHDOG_USEC", "")
        pid = env.get("WATCHDOG_PID", "")
        mine = not pid or pid == str(os.getpid())
        self.watchdog_interval_s: float | None = int(usec) / 1e6 if usec and mine else None
        self._socket: socket.socket | None = None
        self._is_ready = False
        self._was_told_ready = False
        self._open()

    def ready(self) -> None:
        """The agent runs: data flows to the disk, whatever the network does. Said until systemd has it."""
        self._is_ready = True
        self._was_told_ready = self._send("READY=1")

    def alive(self) -> None:
        """Every unit reported progress."""
        if self._is_ready and not self._was_told_ready:
            self.ready()
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The orderly stop began. What never was ready has nothing to stop, and may yet become so."""
        if self._is_ready:
            self._send("STOPPING=1")

    def close(self) -> None:
        """Say nothing more. Idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> None:
        if self._address and self._socket is None:
            with contextlib.suppress(OSError):  # without a free descriptor: at the next word
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def _send(self, message: str) -> bool:
        """Whether systemd has it; one that restarts its socket must not take the agent down."""
        self._open()
        if self._socket is None:
            return False
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            self._socket.sendto(message.encode(), socket.MSG_DONTWAIT, address)
        except OSError:
            return False
        return True
