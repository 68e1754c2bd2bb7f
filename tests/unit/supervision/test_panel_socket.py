"""The socket of the crew's page: whatever a page does or shows, the daemon goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from agent.supervision.panel_socket import PanelSocket

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
