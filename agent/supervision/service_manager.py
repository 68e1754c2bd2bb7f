"""Telling systemd how we are (sd_notify protocol)."""

from __future__ import annotations

import os
import socket


class ServiceManager:
    """Speaks to systemd when it started us; otherwise does nothing.

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

    def ready(self) -> None:
        """The agent runs: data flows to the disk, whatever the network does."""
        self._send("READY=1")

    def alive(self) -> None:
        """Every unit reported progress."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The orderly stop began."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={text}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.sendto(message.encode(), address)
            except OSError:
                return  # systemd restarting its socket must not take the agent down; the watchdog repeats
