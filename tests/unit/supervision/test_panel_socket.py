"""The socket of the crew's page: whatever a page does or shows, the daemon goes on."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agent.domain.health import HealthBoard, HealthReason
from agent.supervision import panel_socket
from agent.supervision.panel_socket import (
    MOST_ACTIONS_PER_S,
    MOST_CLIENTS,
    MOST_LINE_BYTES,
    MOST_UNSENT_BYTES,
    PanelSocket,
)

Read = Callable[[], Awaitable[dict[str, Any]]]


async def _with_page(
    socket: PanelSocket, path: Path, work: Callable[[asyncio.StreamWriter, Read], Awaitable[None]]
) -> None:
    running = asyncio.create_task(socket.run(lambda: None))
    async with asyncio.timeout(30):
        while not path.exists():
            assert not running.done()
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_unix_connection(str(path))

        async def read() -> dict[str, Any]:
            answer: dict[str, Any] = json.loads(await reader.readline())
            return answer

        await work(writer, read)
        assert not running.done()
        writer.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_a_snapshot_that_can_not_be_made_costs_the_page_and_not_the_daemon(tmp_path: Path) -> None:
    shown: list[Mapping[str, Any]] = []

    def snapshot() -> Mapping[str, Any]:
        shown.append({})
        if len(shown) == 1:
            raise OverflowError("date value out of range")
        return {"value": float("nan") if len(shown) == 2 else len(shown)}

    async def main() -> None:
        socket = PanelSocket(tmp_path / "panel.sock", snapshot, {})

        async def work(_: asyncio.StreamWriter, read: Read) -> None:
            assert (await read())["snapshot"]["value"] >= 3

        await _with_page(socket, tmp_path / "panel.sock", work)

    asyncio.run(main())


def test_an_action_beyond_all_numbers_is_refused_and_the_page_stays(tmp_path: Path) -> None:
    def earlier(given: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"ok": round(given["earlier_s"]) > 0}

    async def main() -> None:
        socket = PanelSocket(tmp_path / "panel.sock", dict, {"amend": earlier})

        async def work(writer: asyncio.StreamWriter, read: Read) -> None:
            answers = []
            for number, seconds in enumerate(("1e400", "[]", "60")):
                writer.write(f'{{"do": "amend", "id": "{number}", "earlier_s": {seconds}}}\n'.encode())
                while "re" not in (line := await read()):
                    pass
                answers.append(line.get("error", "done"))
            assert answers == ["malformed", "malformed", "done"]

        await _with_page(socket, tmp_path / "panel.sock", work)

    asyncio.run(main())


class Page:
    """A client of the socket that a test drives by hand."""

    made: ClassVar[list[Page]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.made.append(self)

    @classmethod
    async def at(cls, path: Path) -> Page:
        return cls(*await asyncio.open_unix_connection(str(path), limit=1 << 20))

    async def line(self) -> dict[str, Any] | None:
        """The next line; None at the end."""
        try:
            raw = await self.reader.readline()
        except ConnectionResetError:
            return None
        said: dict[str, Any] | None = json.loads(raw) if raw else None
        return said

    async def answer(self) -> dict[str, Any]:
        """The next answer to an action; what is shown meanwhile is passed over."""
        while (said := await self.line()) is not None:
            if "re" in said:
                return said
        raise AssertionError("the page was dropped")

    async def ended(self) -> None:
        """Wait for the end."""
        while await self.line() is not None:
            pass

    def do(self, **message: Any) -> None:
        self.writer.write(json.dumps(message).encode() + b"\n")

    async def close(self) -> None:
        self.writer.transport.abort()
        with suppress(OSError):
            await self.writer.wait_closed()


@asynccontextmanager
async def serving(socket: PanelSocket, path: Path) -> AsyncIterator[asyncio.Task[None]]:
    """The unit runs and listens."""
    async with asyncio.timeout(40):
        running = asyncio.create_task(socket.run(lambda: None))
        while not path.exists():
            assert not running.done()
            await asyncio.sleep(0.01)
        try:
            yield running
            assert running.cancelling() or not running.done(), "the unit goes on"
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            while Page.made:
                await Page.made.pop().close()
        assert not path.exists()


def test_a_page_is_told_what_is_true_when_it_comes_and_when_it_changes(tmp_path: Path) -> None:
    path, shown = tmp_path / "panel.sock", [0]

    async def main() -> None:
        socket = PanelSocket(path, lambda: {"value": shown[0]}, {})
        async with serving(socket, path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            first, other = await Page.at(path), await Page.at(path)
            for page in (first, other):
                assert await page.line() == {"v": 1, "snapshot": {"value": 0}}
            # What changes at once is shown once.
            for value in range(1, 50):
                shown[0] = value
                socket.changed()
            for page in (first, other):
                while (said := await page.line()) != {"v": 1, "snapshot": {"value": 49}}:
                    assert said == {"v": 1, "snapshot": {"value": 0}}

    asyncio.run(main())


def test_pages_beyond_the_bound_are_left_and_places_become_free_again(tmp_path: Path) -> None:
    path = tmp_path / "panel.sock"

    async def main() -> None:
        async with serving(PanelSocket(path, dict, {}), path):
            pages = [await Page.at(path) for _ in range(MOST_CLIENTS)]
            for page in pages:
                assert await page.line() is not None
            assert await (await Page.at(path)).line() is None
            await pages.pop().close()
            while await (await Page.at(path)).line() is None:
                await asyncio.sleep(0.02)

    asyncio.run(main())


@pytest.mark.parametrize(
    "nonsense",
    [b"\n", b"\xff\n", b"7\n", b'["do"]\n', b"[" * 5000 + b"\n", b"x" * (2 * MOST_LINE_BYTES), b'{"do": NaN'],
    ids=["empty", "bytes", "number", "list", "deep", "endless", "cut off"],
)
def test_a_page_that_talks_nonsense_is_dropped_and_the_others_stay(tmp_path: Path, nonsense: bytes) -> None:
    path = tmp_path / "panel.sock"

    async def main() -> None:
        async with serving(PanelSocket(path, dict, {"press": lambda _: {"ok": True}}), path):
            good, mad = await Page.at(path), await Page.at(path)
            mad.writer.write(nonsense)
            mad.writer.write_eof()
            await mad.ended()
            good.do(do="press", id="1")
            assert await good.answer() == {"re": "1", "ok": True}

    asyncio.run(main())


def test_actions_are_answered_by_their_number_and_bounded_in_their_rate(tmp_path: Path) -> None:
    path = tmp_path / "panel.sock"
    done: list[Mapping[str, Any]] = []

    def press(given: Mapping[str, Any]) -> Mapping[str, Any]:
        done.append(given)
        return {"ok": True}

    async def main() -> None:
        async with serving(PanelSocket(path, dict, {"press": press}), path):
            page = await Page.at(path)
            page.do(do="nothing of the kind", id="x" * 1000)
            said = await page.answer()
            assert (said["re"], said["error"]) == ("x" * 32, "unknown_action")
            page.do(id="2")
            assert (await page.answer())["error"] == "unknown_action"
            for number in range(10 * MOST_ACTIONS_PER_S):
                page.do(do="press", id=str(number))
            answers = [await page.answer() for _ in range(10 * MOST_ACTIONS_PER_S)]
            assert [one["re"] for one in answers] == [str(number) for number in range(len(answers))]
            refused = [one for one in answers if one.get("error") == "too_many"]
            assert len(done) + len(refused) == len(answers)
            assert refused, "ten seconds' worth did not come through at once"

    asyncio.run(main())


def test_a_page_that_does_not_read_is_dropped_and_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "panel.sock"

    async def main() -> None:
        socket = PanelSocket(path, lambda: {"text": "x" * 100_000}, {})
        async with serving(socket, path):
            slow, good = await Page.at(path), await Page.at(path)
            for page in (slow, good):
                assert await page.line() is not None
            slow.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's has it
            seen = 0
            while len(socket._clients) == 2:
                socket.changed()
                assert await good.line() is not None
                seen += 1
            assert seen < 100
            assert max(one.transport.get_write_buffer_size() for one in socket._clients) <= MOST_UNSENT_BYTES

    asyncio.run(main())


def test_the_end_waits_for_no_page(tmp_path: Path) -> None:
    path = tmp_path / "panel.sock"

    async def main() -> None:
        async with serving(PanelSocket(path, lambda: {"text": "x" * 100_000}, {}), path) as running:
            pages = [await Page.at(path) for _ in range(3)]
            assert await pages[0].line() is not None
            pages[1].writer.write(b'{"do": "pre')
            running.cancel()
            for page in pages:
                await page.ended()
            await asyncio.wait({running})

    asyncio.run(main())


def test_a_socket_that_can_not_be_made_is_a_reason_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panel_socket, "RETRY_S", 0.02)
    path = tmp_path / "run" / "panel.sock"
    path.parent.write_text("in the way of the folder")

    async def main() -> None:
        health = HealthBoard()
        running = asyncio.create_task(PanelSocket(path, dict, {}, health).run(lambda: None))
        async with asyncio.timeout(30):
            while HealthReason.PANEL_FAILED not in health.reasons():
                await asyncio.sleep(0.01)
            path.parent.unlink()
            while HealthReason.PANEL_FAILED in health.reasons():
                await asyncio.sleep(0.01)
            page = await Page.at(path)
            assert await page.line() is not None
            await page.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
