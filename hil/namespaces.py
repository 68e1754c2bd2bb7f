"""Network namespaces: a vehicle and a broker with two ways between them, on one computer.

Needs root and iproute2. A thread lives in one namespace; threads and sockets that it makes are born there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Self

BROKER_HOST = "10.9.0.1"
"""The broker's own address, which both ways lead to."""
WAYS = {"wwan0": 1, "wlan0": 2}
"""Interfaces of the vehicle, and the second byte of the network of each."""


class NamespacesUnavailableError(Exception):
    """There are none on this computer; the text says what is missing."""


class Namespace:
    """One network namespace, deleted by `close`."""

    def __init__(self, role: str) -> None:
        self.name = f"mdt-{role}-{uuid.uuid4().hex[:8]}"
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise NamespacesUnavailableError("needs root and iproute2")
        made = subprocess.run(["ip", "netns", "add", self.name], capture_output=True, text=True, check=False)
        if made.returncode:
            raise NamespacesUnavailableError(made.stderr.strip())
        self.ip("link", "set", "lo", "up")

    def ip(self, *words: str) -> None:
        """Run `ip` inside. Raises subprocess.CalledProcessError."""
        subprocess.run(["ip", "-n", self.name, *words], check=True, capture_output=True)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is inside."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(Path("/run/netns", self.name), os.O_RDONLY)
        try:
            _move(there)
            try:
                yield
            finally:
                _move(here)
        finally:
            os.close(here)
            os.close(there)

    def close(self) -> None:
        """Delete it. Idempotent."""
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)


class TwoWays:
    """A vehicle's namespace and a broker's, with a mobile network and a wireless one between them.

    At first the vehicle has the mobile one only.
    """

    def __init__(self) -> None:
        self.vehicle = Namespace("vehicle")
        self.broker = Namespace("broker")

    def __enter__(self) -> Self:
        self.broker.ip("address", "add", f"{BROKER_HOST}/32", "dev", "lo")
        for name, number in WAYS.items():
            far = f"far{number}"
            self.vehicle.ip(
                "link", "add", name, "type", "veth", "peer", "name", far, "netns", self.broker.name
            )
            self.broker.ip("address", "add", f"10.{number}.0.1/24", "dev", far)
            self.broker.ip("link", "set", far, "up")
        self.comes("wwan0", metric=600)
        return self

    def __exit__(self, *_: object) -> None:
        self.vehicle.close()
        self.broker.close()

    def comes(self, name: str, *, metric: int, host: int = 2) -> None:
        """An interface comes up with an address and a route; the lower metric is preferred."""
        number = WAYS[name]
        self.vehicle.ip("link", "set", name, "up")
        self.vehicle.ip("address", "add", f"10.{number}.0.{host}/24", "dev", name)
        gateway = f"10.{number}.0.1"
        self.vehicle.ip("route", "add", "default", "via", gateway, "dev", name, "metric", str(metric))

    def goes(self, name: str) -> None:
        """It is gone, with its address and route."""
        self.vehicle.ip("address", "flush", "dev", name)
        self.vehicle.ip("link", "set", name, "down")

    def swallow(self, name: str, *, on: bool) -> None:
        """What the broker sends back by this way vanishes; nobody is told."""
        self.broker.ip("route", "add" if on else "del", "blackhole", f"10.{WAYS[name]}.0.2/32")


def _move(descriptor: int) -> None:
    """os.setns, which Python has from 3.12 on."""
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0):
        raise OSError(ctypes.get_errno(), "setns")
