"""Asking the daemon over its socket."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import stat
import threading
from pathlib import Path

import pytest

from agent.supervision import daemon_answer
from agent.supervision.daemon_answer import DaemonAwayError, ask
from agent.supervision.status_socket import CLIENTS_AT_ONCE, StatusSocket


def test_an_answer_and_a_wrong_question(tmp_path: Path) -> None:
    path = tmp_path / "run" / "mdt.sock"

    async def main() -> None:
        status = StatusSocket(path, {"status": lambda: {"unit": "A1", "speed_mps": None}})
        await status.open()
        try:
            assert await asyncio.to_thread(ask, path, "status") == {"unit": "A1", "speed_mps": None}
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            with pytest.raises(DaemonAwayError, match="ask one of status"):
                await asyncio.to_thread(ask, path, "nonsense")
        finally:
            await status.close()
        assert not path.exists()

    asyncio.run(main())


def test_a_socket_left_by_a_killed_daemon_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mdt.sock"
    path.touch()

    async def main() -> None:
        status = StatusSocket(path, {"status": lambda: 1})
        await status.open()
        assert await asyncio.to_thread(ask, path, "status") == 1
        await status.close()

    asyncio.run(main())


def test_no_daemon(tmp_path: Path) -> None:
    with pytest.raises(DaemonAwayError):
        ask(tmp_path / "mdt.sock", "status")


def connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(20)
    client.connect(str(path))
    return client


def read_all(client: socket.socket) -> bytes:
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(65536):
            said += part
    client.close()
    return said


def test_clients_beyond_the_bound_are_told_so_and_places_become_free_again(tmp_path: Path) -> None:
    path = tmp_path / "mdt.sock"

    async def main() -> None:
        status = StatusSocket(path, {"status": lambda: 1}, answer_within_s=600)
        await status.open()
        silent = [await asyncio.to_thread(connected, path) for _ in range(CLIENTS_AT_ONCE)]
        with pytest.raises(DaemonAwayError, match="busy"):
            await asyncio.to_thread(ask, path, "status")
        for client in silent:
            client.close()
        async with asyncio.timeout(20):
            while status._clients:
                await asyncio.sleep(0.01)
        assert await asyncio.to_thread(ask, path, "status") == 1
        await status.close()

    asyncio.run(main())


def test_a_silent_client_is_left_when_its_time_is_over(tmp_path: Path) -> None:
    path = tmp_path / "mdt.sock"

    async def main() -> None:
        status = StatusSocket(path, {"status": lambda: 1}, answer_within_s=0.05)
        await status.open()
        client = await asyncio.to_thread(connected, path)
        assert await asyncio.to_thread(read_all, client) == b""
        await status.close()

    asyncio.run(main())


def test_a_client_that_does_not_read_its_answer_is_left_and_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "mdt.sock"

    async def main() -> None:
        status = StatusSocket(path, {"status": lambda: "x" * 4_000_000}, answer_within_s=0.2)
        await status.open()
        client = await asyncio.to_thread(connected, path)
        client.sendall(b'{"ask": "status"}\n')
        async with asyncio.timeout(20):
            while not status._clients:
                await asyncio.sleep(0.01)
            while status._clients:
                await asyncio.sleep(0.01)
        assert len(await asyncio.to_thread(read_all, client)) < 4_000_000
        await status.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "question", [b"x" * 100_000, b"[" * 1000 + b"\n", b'{"ask": ["status"]}\n', b"\xff\n", b"\n", b"null\n"]
)
def test_nonsense_is_bounded_and_harms_nobody(question: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mdt.sock"

    async def main() -> None:
        status = StatusSocket(path, {"status": lambda: 1})
        await status.open()
        client = await asyncio.to_thread(connected, path)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(client.sendall, question)
            client.shutdown(socket.SHUT_WR)
        said = await asyncio.to_thread(read_all, client)
        assert said == b"" or b"ask one of status" in said
        assert await asyncio.to_thread(ask, path, "status") == 1
        await status.close()

    asyncio.run(main())


def test_a_snapshot_that_fails_is_told_and_the_daemon_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "mdt.sock"

    def fail() -> None:
        raise UnicodeDecodeError("utf-8", b"hunter2\xff", 7, 8, "invalid start byte")

    async def main() -> None:
        status = StatusSocket(path, {"status": fail, "other": lambda: 2})
        await status.open()
        with pytest.raises(DaemonAwayError, match="this can not be said: UnicodeDecodeError") as caught:
            await asyncio.to_thread(ask, path, "status")
        assert "hunter2" not in str(caught.value)
        assert await asyncio.to_thread(ask, path, "other") == 2
        await status.close()

    asyncio.run(main())


def test_the_end_waits_for_no_client(tmp_path: Path) -> None:
    path = tmp_path / "mdt.sock"

    async def main() -> None:
        status = StatusSocket(path, {"status": lambda: 1}, answer_within_s=600)
        await status.open()
        client = await asyncio.to_thread(connected, path)
        async with asyncio.timeout(20):
            while not status._clients:
                await asyncio.sleep(0.01)
            await status.close()
        assert await asyncio.to_thread(read_all, client) == b""
        assert not path.exists()

    asyncio.run(main())


def test_what_must_be_read_first_is_awaited(tmp_path: Path) -> None:
    path = tmp_path / "mdt.sock"

    async def slowly() -> dict[str, int]:
        await asyncio.sleep(0)
        return {"runs": 2}

    async def fails() -> None:
        raise OSError("the disk can not be read")

    async def main() -> None:
        status = StatusSocket(path, {"times": slowly, "fails": fails})
        await status.open()
        try:
            assert await asyncio.to_thread(ask, path, "times") == {"runs": 2}
            with pytest.raises(DaemonAwayError, match="this can not be said"):
                await asyncio.to_thread(ask, path, "fails")
        finally:
            await status.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([b"[" * 100_000 + b"\n"], id="nested"),
        pytest.param([b" " * 65_536] * 100, id="without an end"),
        pytest.param([b"\xff\xfe\n"], id="no text"),
        pytest.param([b" "] * 1000, id="by drops"),
    ],
)
def test_whatever_else_listens_on_the_socket_is_no_daemon_and_holds_nobody_up(
    tmp_path: Path, parts: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_answer, "ANSWER_WITHIN_S", 1.0)
    path = tmp_path / "mdt.sock"
    left = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def serve() -> None:
            client, _ = listener.accept()
            with client, contextlib.suppress(OSError):
                for part in parts:
                    client.sendall(part)
                    if len(part) == 1 and left.wait(0.1):
                        break
                left.wait(60)

        server = threading.Thread(target=serve)
        server.start()
        try:
            with pytest.raises(DaemonAwayError):
                ask(path, "status")
        finally:
            left.set()
            server.join()


def test_whoever_can_not_look_for_another_daemon_takes_no_socket_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mdt.sock"

    async def no_descriptor(_: str) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async def main() -> None:
        running = StatusSocket(path, {"status": lambda: "the first"})
        await running.open()
        with monkeypatch.context() as short:
            short.setattr(asyncio, "open_unix_connection", no_descriptor)
            with pytest.raises(OSError, match="Too many"):
                await StatusSocket(path, {"status": lambda: "another"}).open()
        assert await asyncio.to_thread(ask, path, "status") == "the first"
        await running.close()

    asyncio.run(main())
