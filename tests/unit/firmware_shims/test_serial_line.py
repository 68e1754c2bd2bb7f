"""The serial line on PTYs and TCP: nothing lost by cancelling, nothing leaked, faults are HardwareErrors."""

from __future__ import annotations

import asyncio
import os
import pty
import socket
import sys
import threading
import tty
import types
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agent.hal.errors import DeviceLostError, DeviceNotFoundError
from firmware_shims import serial_line
from firmware_shims.serial_line import SerialLine


@contextmanager
def a_pty() -> Iterator[tuple[int, str]]:
    master, slave = pty.openpty()
    tty.setraw(slave)
    try:
        yield master, os.ttyname(slave)
    finally:
        for descriptor in (master, slave):
            with suppress(OSError):
                os.close(descriptor)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_reads_and_writes() -> None:
    async def check(master: int, device: str) -> None:
        line = SerialLine(device, 115_200)
        await line.open()
        await line.open()  # already open
        os.write(master, b"abc")
        assert await line.read() == b"abc"
        await line.write(b"xyz")
        assert os.read(master, 10) == b"xyz"
        await line.close()
        await line.close()
        with pytest.raises(DeviceLostError, match="not open"):
            await line.read()

    with a_pty() as (master, device):
        asyncio.run(check(master, device))


def test_a_cancelled_read_loses_nothing() -> None:
    async def check(master: int, device: str) -> None:
        line = SerialLine(device, 9600)
        await line.open()
        got = b""
        for number in range(50):
            reading = asyncio.ensure_future(line.read())
            await asyncio.sleep(0)
            os.write(master, bytes([number]))
            if number % 2:
                await asyncio.sleep(0)
            reading.cancel()
            with suppress(asyncio.CancelledError):
                got += await reading
        while len(got) < 50:
            got += await line.read()
        assert got == bytes(range(50))
        await line.close()

    with a_pty() as (master, device):
        asyncio.run(check(master, device))


def test_closing_ends_a_waiting_read() -> None:
    async def check(device: str) -> None:
        line = SerialLine(device, 9600)
        await line.open()
        reading = asyncio.ensure_future(line.read())
        await asyncio.sleep(0)
        await line.close()
        with pytest.raises(DeviceLostError, match="closed"):
            await reading

    with a_pty() as (_, device):
        asyncio.run(check(device))


def test_large_and_concurrent_writes_arrive_whole() -> None:
    async def check(master: int, device: str) -> None:
        line = SerialLine(device, 9600)
        await line.open()
        loop, got = asyncio.get_running_loop(), bytearray()
        enough = asyncio.Event()

        def drain() -> None:
            got.extend(os.read(master, 65_536))
            if len(got) == 60_000:
                enough.set()

        writes = [asyncio.ensure_future(line.write(bytes([letter]) * 20_000)) for letter in b"abc"]
        await asyncio.sleep(0)
        loop.add_reader(master, drain)
        await asyncio.gather(*writes)
        async with asyncio.timeout(5):
            await enough.wait()
        loop.remove_reader(master)
        assert bytes(got) == b"a" * 20_000 + b"b" * 20_000 + b"c" * 20_000
        await line.close()

    with a_pty() as (master, device):
        asyncio.run(check(master, device))


def test_a_device_that_takes_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_line, "WRITE_TIMEOUT_S", 0.05)

    async def check(device: str) -> None:
        line = SerialLine(device, 9600)
        await line.open()
        with pytest.raises(DeviceLostError, match="took nothing"):
            await line.write(b"x" * 1_000_000)
        await line.close()

    with a_pty() as (_, device):
        asyncio.run(check(device))


def test_a_second_opener_is_refused() -> None:
    async def check(device: str) -> None:
        first, second = SerialLine(device, 9600), SerialLine(device, 9600)
        await first.open()
        with pytest.raises(DeviceNotFoundError, match="in use"):
            await second.open()
        await first.close()
        await second.open()
        await second.close()

    with a_pty() as (_, device):
        asyncio.run(check(device))


@pytest.mark.parametrize(
    ("device", "why"),
    [
        ("/dev/does-not-exist", "No such file"),
        ("/dev/null", "Inappropriate ioctl"),
        ("socket://127.0.0.1", "address of the form"),
        ("socket://127.0.0.1:99999", "Port out of range"),
        ("socket://[::1:80", "Invalid IPv6"),
        ("rfc2217://127.0.0.1:80", "address of the form"),
        ("loop://", "address of the form"),
        ("", ""),
    ],
)
def test_what_can_not_be_opened_is_said_plainly(device: str, why: str) -> None:
    async def check() -> None:
        line = SerialLine(device, 9600)
        with pytest.raises(DeviceNotFoundError) as caught:
            await line.open()
        assert why in caught.value.why
        assert caught.value.__cause__ is not None
        await line.close()

    before = open_descriptors()
    asyncio.run(check())
    assert open_descriptors() == before


def test_a_refused_connection_is_a_device_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    async def check() -> None:
        with pytest.raises(DeviceNotFoundError, match="refused"):
            await SerialLine(f"socket://127.0.0.1:{port}", 0).open()

    asyncio.run(check())


def test_giving_up_on_opening_closes_what_is_opened_later(monkeypatch: pytest.MonkeyPatch) -> None:
    release, near, far = threading.Event(), *socket.socketpair()

    def slow(_device: str, _baud: int) -> socket.socket:
        release.wait(10)
        return near

    monkeypatch.setattr(serial_line, "_open_blocking", slow)

    async def check() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await SerialLine("/dev/slow", 9600).open()
        release.set()
        far.setblocking(False)
        async with asyncio.timeout(5):
            assert await asyncio.get_running_loop().sock_recv(far, 1) == b""

    asyncio.run(check())
    far.close()
    assert near.fileno() == -1


def test_an_import_that_fails_in_one_thread_leaves_another_no_half_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two lines are opened at once; the first finds no descriptor in the middle of loading pyserial."""
    package = tmp_path / "serial"
    package.mkdir()
    # The test's own, which does what a real one does when its second half can not be read.
    (package / "__init__.py").write_text(
        "from gate import met, failing\n"
        "met.set()\n"
        "failing.wait(20)\n"
        "import errno, sys\n"
        "if not getattr(sys, 'serial_failed', False):\n"
        "    sys.serial_failed = True\n"
        "    raise OSError(errno.EMFILE, 'Too many open files')\n"
        "Serial = None\n"
    )
    gate = types.ModuleType("gate")
    met, failing = threading.Event(), threading.Event()
    gate.__dict__.update(met=met, failing=failing)
    monkeypatch.setitem(sys.modules, "gate", gate)
    monkeypatch.delitem(sys.modules, "serial", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "serial_failed", False, raising=False)
    said: list[Exception] = []

    def opened() -> None:
        try:
            serial_line._open_port("/dev/absent", 9600)
        except (OSError, TypeError, AttributeError) as error:
            said.append(error)

    threads = [threading.Thread(target=opened) for _ in range(2)]
    threads[0].start()
    assert met.wait(20)
    threads[1].start()
    threading.Event().wait(0.2)  # without the mend it is in the import by then
    failing.set()
    for thread in threads:
        thread.join(20)
    monkeypatch.delitem(sys.modules, "serial", raising=False)
    kinds = sorted(type(error).__name__ for error in said)
    # The second has the whole module; what it has of it here is None.
    assert kinds == ["OSError", "TypeError"], said
