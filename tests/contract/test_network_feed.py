"""The netlink feed against the real kernel, in a network namespace of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from agent.hal.network import NetworkChange
from firmware_shims.netlink import NetlinkFeed


class Namespace:
    """A network namespace with a pair of interfaces."""

    def __init__(self, name: str) -> None:
        self.name = name

    def ip(self, *words: str) -> None:
        """Run `ip` inside."""
        subprocess.run(["ip", "-n", self.name, *words], check=True, capture_output=True)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2")
    name = f"mdt-{uuid.uuid4().hex[:8]}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        pytest.skip("this kernel gives no network namespaces")
    try:
        inside = Namespace(name)
        inside.ip("link", "set", "lo", "up")
        inside.ip("link", "add", "wwan0", "type", "veth", "peer", "name", "mast0")
        inside.ip("link", "set", "mast0", "up")
        yield inside
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def inside(namespace: Namespace, work: Callable[[NetlinkFeed], Coroutine[Any, Any, None]]) -> None:
    """Run a loop on a thread that has moved into the namespace."""
    failure: list[BaseException] = []

    async def main() -> None:
        feed = NetlinkFeed()
        await feed.open()
        try:
            async with asyncio.timeout(30):
                await work(feed)
        finally:
            await feed.close()

    def run() -> None:
        try:
            with open(f"/run/netns/{namespace.name}") as target:  # noqa: PTH123  # a descriptor is wanted
                setns(target.fileno())
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001  # handed to the test
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]


def setns(descriptor: int) -> None:
    """os.setns is of Python 3.12."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0):
        raise OSError(ctypes.get_errno(), "setns")


async def heard(feed: NetlinkFeed, *wanted: str) -> list[str]:
    """Read until everything wanted was told."""
    told: list[str] = []
    while not set(wanted) <= set(told):
        told += [change.what for change in await feed.read()]
    return told


async def quiet(feed: NetlinkFeed, seconds: float = 0.5) -> list[NetworkChange]:
    """What is told within a while."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return list(await feed.read())
    return []


def test_interface_address_and_route_are_told_as_they_come_and_go(namespace: Namespace) -> None:
    async def work(feed: NetlinkFeed) -> None:
        namespace.ip("link", "set", "wwan0", "up")
        await heard(feed, "wwan0 up")
        namespace.ip("address", "add", "192.0.2.7/24", "dev", "wwan0")
        await heard(feed, "address 192.0.2.7 new", "route 192.0.2.0 new")
        namespace.ip("route", "add", "default", "via", "192.0.2.1")
        await heard(feed, "route default new")
        namespace.ip("address", "del", "192.0.2.7/24", "dev", "wwan0")
        await heard(feed, "address 192.0.2.7 gone")
        namespace.ip("link", "set", "mast0", "down")
        await heard(feed, "wwan0 down")

    inside(namespace, work)


def test_what_is_there_already_is_no_news_when_it_is_told_again(namespace: Namespace) -> None:
    namespace.ip("link", "set", "wwan0", "up")
    namespace.ip(
        "address", "add", "192.0.2.7/24", "dev", "wwan0", "valid_lft", "1000", "preferred_lft", "1000"
    )
    namespace.ip("route", "add", "default", "via", "192.0.2.1")

    async def work(feed: NetlinkFeed) -> None:
        while await quiet(feed):
            pass  # duplicate address detection of IPv6 may still be under way
        renew = (
            "address",
            "change",
            "192.0.2.7/24",
            "dev",
            "wwan0",
            "valid_lft",
            "900",
            "preferred_lft",
            "900",
        )
        namespace.ip(*renew)
        namespace.ip("link", "set", "wwan0", "txqueuelen", "77")
        assert await quiet(feed) == []
        namespace.ip("route", "replace", "default", "via", "192.0.2.2")
        await heard(feed, "route default new")

    inside(namespace, work)


def test_can_and_loopback_do_not_count(namespace: Namespace) -> None:
    with contextlib.suppress(subprocess.CalledProcessError):  # a kernel without virtual CAN
        namespace.ip("link", "add", "vcan0", "type", "vcan")

    async def work(feed: NetlinkFeed) -> None:
        while await quiet(feed):
            pass
        namespace.ip("link", "set", "lo", "down")
        namespace.ip("link", "set", "lo", "up")
        with contextlib.suppress(subprocess.CalledProcessError):
            namespace.ip("link", "set", "vcan0", "up")
            namespace.ip("link", "set", "vcan0", "down")
        assert await quiet(feed) == []

    inside(namespace, work)


@pytest.mark.parametrize("data", [b"", b"\xff" * 40, b"\x10\0\0\0\x10\0" + b"\0" * 30, bytes(100)])
def test_nonsense_instead_of_messages_is_no_change(data: bytes) -> None:
    assert list(NetlinkFeed()._take(data)) == []
