"""What systemd hears, also when the daemon has no free descriptor for saying it."""

from __future__ import annotations

import asyncio
import errno
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import config
from agent.domain.health import HealthBoard
from agent.supervision import watchdog
from agent.supervision.service_manager import ServiceManager
from agent.supervision.supervisor import Supervisor


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(30)
        yield listening


def manager_of(systemd: socket.socket, **more: str) -> ServiceManager:
    return ServiceManager({"NOTIFY_SOCKET": systemd.getsockname(), **more})


def no_descriptor(*_: Any, **__: Any) -> socket.socket:
    raise OSError(errno.EMFILE, "Too many open files")


def test_systemd_hears_ready_and_alive(systemd: socket.socket) -> None:
    manager = manager_of(systemd, WATCHDOG_USEC="5000000")
    manager.ready()
    manager.alive()
    manager.stopping()
    assert [systemd.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]
    assert manager.watchdog_interval_s == 5
    systemd.close()
    manager.alive()  # systemd gone: no harm
    manager.close()
    manager.close()


def test_a_watchdog_meant_for_another_process_is_not_ours() -> None:
    assert ServiceManager({"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"}).watchdog_interval_s is None


def test_without_a_free_descriptor_the_watchdog_is_fed_all_the_same(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = manager_of(systemd)
    monkeypatch.setattr("agent.supervision.service_manager.socket.socket", no_descriptor)
    manager.ready()
    manager.alive()
    assert [systemd.recv(100), systemd.recv(100)] == [b"READY=1", b"WATCHDOG=1"]
    manager.close()


def test_what_could_not_be_said_for_want_of_a_descriptor_is_said_once_there_is_one(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with monkeypatch.context() as short:
            short.setattr("agent.supervision.service_manager.socket.socket", no_descriptor)
            manager = manager_of(systemd, WATCHDOG_USEC="30000")
            manager.ready()
        supervisor = Supervisor(config.Supervision(), HealthBoard(), random.Random(1))
        feeding = asyncio.create_task(watchdog.feed(manager, supervisor))
        heard = [await asyncio.to_thread(systemd.recv, 100) for _ in range(3)]
        assert heard == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        manager.close()

    asyncio.run(main())


def test_what_never_was_ready_tells_no_stop(systemd: socket.socket) -> None:
    manager = manager_of(systemd)
    # It may try again, and systemd would kill what it believes to be stopping.
    manager.stopping()
    manager.ready()
    assert systemd.recv(100) == b"READY=1"
    manager.close()
