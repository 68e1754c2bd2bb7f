"""Asking the daemon over its socket."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from agent.supervision.status_socket import DaemonAwayError, StatusSocket, ask


def test_an_answer_and_a_wrong_question(tmp_path: Path) -> None:
    path = tmp_path / "run" / "mdt.sock"

    async def main() -> None:
        socket = StatusSocket(path, {"status": lambda: {"unit": "A1", "speed_mps": None}})
        await socket.open()
        try:
            assert await asyncio.to_thread(ask, path, "status") == {"unit": "A1", "speed_mps": None}
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            with pytest.raises(DaemonAwayError, match="ask one of status"):
                await asyncio.to_thread(ask, path, "nonsense")
        finally:
            await socket.close()
        assert not path.exists()

    asyncio.run(main())


def test_a_socket_left_by_a_killed_daemon_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mdt.sock"
    path.touch()

    async def main() -> None:
        socket = StatusSocket(path, {"status": lambda: 1})
        await socket.open()
        assert await asyncio.to_thread(ask, path, "status") == 1
        await socket.close()

    asyncio.run(main())


def test_no_daemon(tmp_path: Path) -> None:
    with pytest.raises(DaemonAwayError):
        ask(tmp_path / "mdt.sock", "status")
