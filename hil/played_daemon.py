"""A daemon that a test plays: the page's real server and socket, with a truth that the test sets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import uvicorn

from agent.panel.daemon_link import DaemonLink
from agent.panel.server import Panel
from agent.supervision.panel_socket import Action, PanelSocket

TOKEN = "a-token-of-the-test"  # noqa: S105  # opens nothing but the page of one test


def a_snapshot() -> dict[str, Any]:
    """What a daemon says when all is well and nothing was pressed."""
    tokens = (
        "acknowledged",
        "en_route",
        "on_scene",
        "at_patient",
        "transporting",
        "at_destination",
        "available",
        "out_of_service",
    )
    return {
        "unit": {"call_sign": "A1", "vehicle": "V-17"},
        "incident": None,
        "status": {"token": None, "age_s": None, "reason": None, "undo_s": 0, "refused": None},
        "keys": [{"key": token, "token": token, "lamp": "off"} for token in tokens],
        "more_keys": [],
        "reasons": {"out_of_service": ["mechanical", "fuel"]},
        "delay_reasons": ["traffic", "weather"],
        "crew": [],
        "emergency": {
            "active": False,
            "sent": False,
            "received": False,
            "test_held": False,
            "is_test": False,
            "silent": True,
        },
        "call": None,
        "messages": [],
        "recent": [],
        "hospitals": [{"id": "bmc", "name": "BMC"}],
        "link": {"connected": True},
        "gnss": {"fix": True},
        "backlog": {"presses": 0},
        "health": [],
        "motion": {"driving": False},
        "night": False,
        "hint": None,
        "receipts": True,
        "available_for_calls": True,
    }


class _EveryAction(dict[str, Action]):
    """A table of actions in which every word stands: which there are is the real daemon's to know."""

    def __init__(self, act: Action) -> None:
        super().__init__()
        self._act = act

    def get(self, _name: str, _default: Any = None) -> Action:
        """The one answer to all."""
        return self._act


class PlayedDaemon:
    """A daemon whose truth the test sets, behind the real socket and server; in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "panel.sock"
        self.says = a_snapshot()
        self.done: list[dict[str, Any]] = []
        self._done_at: dict[str, float] = {}
        self.answers: dict[str, Mapping[str, Any]] = {}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._main(),))
        self._daemon: asyncio.Task[None] | None = None
        self._server: uvicorn.Server | None = None
        self._socket: PanelSocket | None = None

    @property
    def address(self) -> str:
        """Where the page is, with its token."""
        return f"http://127.0.0.1:{self.port}/?token={TOKEN}"

    def start(self) -> None:
        """Serve; returns once the page can be opened."""
        self._thread.start()
        assert self._ready.wait(30)

    def stop(self) -> None:
        """End everything and join the thread."""
        assert self._server is not None
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()
        self._loop.close()

    def set(self, **changes: Any) -> None:
        """Change what is true, and tell the page."""

        def change() -> None:
            self.says.update(changes)
            if self._socket is not None:
                self._socket.changed()

        self._call(change)

    def last_done_ago_s(self, action: Mapping[str, Any]) -> float:
        """How long ago the page did that last."""
        return monotonic() - self._done_at[str(action)]

    def light(self, key: str, lamp: str) -> None:
        """Change one lamp."""
        keys = [dict(one, lamp=lamp) if one["key"] == key else one for one in self.says["keys"]]
        self.set(keys=keys)

    def die(self) -> None:
        """End the daemon; the page's server goes on."""

        async def end() -> None:
            assert self._daemon is not None
            self._daemon.cancel()
            await asyncio.gather(self._daemon, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(30)

    def live(self) -> None:
        """Start the daemon again."""
        self._call(self._begin)

    def _call(self, work: Callable[[], None]) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(work)
        self._loop.call_soon_threadsafe(done.set)
        assert done.wait(30)

    def _begin(self) -> None:
        self._socket = PanelSocket(self.path, lambda: self.says, _EveryAction(self._act))
        self._daemon = asyncio.get_running_loop().create_task(self._socket.run(lambda: None))

    def _act(self, action: Mapping[str, Any]) -> Mapping[str, Any]:
        given = {name: value for name, value in action.items() if name != "id"}
        self.done.append(given)
        self._done_at[str(given)] = monotonic()
        return self.answers.get(given["do"], {"ok": True})

    async def _main(self) -> None:
        self._begin()
        page = {"language": "en", "px_per_mm": 5.2, "passenger": False, "sound": True, "sound_every_s": 5}
        hosts = frozenset({f"127.0.0.1:{self.port}"})
        panel = Panel(DaemonLink(self.path), token=TOKEN, hosts=hosts, page=page)
        config = uvicorn.Config(
            panel.app(), host="127.0.0.1", port=self.port, log_level="error", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        serving = asyncio.create_task(self._server.serve())
        while not self._server.started and not serving.done():
            await asyncio.sleep(0.01)
        self._ready.set()
        await serving
        assert self._daemon is not None
        self._daemon.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._daemon
