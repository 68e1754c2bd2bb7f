"""The panel's web server: the page, a stream of what is true now, and one door for what the crew does."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from importlib import resources
from typing import Any, Final

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.panel.daemon_link import DaemonAwayError, DaemonLink

COOKIE: Final = "mdt_panel"
BEAT_S: Final = 1.0
"""The page is told at least so often that the server lives; it believes in silence for twice as long."""
MOST_STREAMS: Final = 8
MOST_ACTION_BYTES: Final = 8_192
FILES: Final = {
    "index.html": "text/html; charset=utf-8",
    "panel.css": "text/css; charset=utf-8",
    "panel.js": "text/javascript; charset=utf-8",
    "lamps.js": "text/javascript; charset=utf-8",
    "guard.js": "text/javascript; charset=utf-8",
}
WORDS: Final = ("en", "de")
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Panel:
    """The web application of one panel.

    Args:
        link: to the daemon.
        token: who knows it may press; handed over once in the address, kept in a cookie.
        hosts: values of the Host header that are ours: a page of another site that got this address by a
            trick of DNS is turned away.
        page: settings that the page needs, JSON-able (`px_per_mm`, `language`, `passenger`, `tiles`).
    """

    def __init__(self, link: DaemonLink, *, token: str, hosts: frozenset[str], page: dict[str, Any]) -> None:
        self._link = link
        self._token = token
        self._hosts = hosts
        self._page = page
        self._streams = 0

    def app(self) -> Starlette:
        """The ASGI application; it keeps the line to the daemon while it serves."""
        routes = [
            Route("/", self._index),
            Route("/words", self._words),
            Route("/settings", self._settings),
            Route("/stream", self._stream),
            Route("/act", self._act, methods=["POST"]),
            Route("/{name}", self._file),
        ]

        @contextlib.asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            running = asyncio.create_task(self._link.run(), name="daemon-link")
            try:
                yield
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

        return Starlette(
            routes=routes, lifespan=lifespan, middleware=[Middleware(_Guard, refusal=self._refusal)]
        )

    def _refusal(self, request: Request) -> Response | None:
        if request.headers.get("host", "").lower() not in self._hosts:
            return PlainTextResponse("unknown host", 421)
        given = request.query_params.get("token") if request.url.path == "/" else None
        if given is not None and self._is_token(given):
            # The secret leaves the address bar at once.
            answer = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, given, httponly=True, samesite="strict")
            return answer
        if not self._is_token(request.cookies.get(COOKIE, "")):
            return PlainTextResponse("open the panel with its token: /?token=...", 403)
        if request.method == "POST":
            origin = request.headers.get("origin", "")
            if origin.removeprefix("http://").lower() not in self._hosts:
                return PlainTextResponse("another site's page", 403)
        return None

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())

    async def _index(self, _: Request) -> Response:
        return _file("index.html")

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        return _file(name) if name in FILES else PlainTextResponse("no such page", 404)

    async def _words(self, _: Request) -> Response:
        language = self._page.get("language", "en")
        name = f"words.{language if language in WORDS else 'en'}.json"
        text = resources.files("agent.panel").joinpath("page", name).read_bytes()
        return Response(text, media_type="application/json")

    async def _settings(self, _: Request) -> Response:
        return JSONResponse(self._page)

    async def _stream(self, _: Request) -> Response:
        if self._streams >= MOST_STREAMS:
            return PlainTextResponse("too many panels are open", 503)
        return StreamingResponse(self._events(), media_type="text/event-stream")

    async def _events(self) -> AsyncIterator[bytes]:
        changed = asyncio.Event()
        changed.set()
        self._streams += 1
        stop = self._link.listen(changed.set)
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_S):
                        await changed.wait()
                changed.clear()
                yield b"data: " + json.dumps({"daemon": self._link.snapshot}).encode() + b"\n\n"
        finally:
            self._streams -= 1
            stop()

    async def _act(self, request: Request) -> Response:
        try:
            action = json.loads(await _body(request))
        except ValueError as error:
            return _refused("malformed", str(error), 400)
        if not isinstance(action, dict):
            return _refused("malformed", "an action is an object", 400)
        try:
            answer = await self._link.act(action)
        except DaemonAwayError as error:
            return _refused("agent_away", str(error), 503)
        return JSONResponse(answer, 200 if "ok" in answer else 409)


class _Guard:
    """Lets in our own page only, and tells the browser to keep out the rest."""

    def __init__(self, app: ASGIApp, refusal: Callable[[Request], Response | None]) -> None:
        self._app = app
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await (self._refusal(Request(scope)) or self._app)(scope, receive, send_guarded)


async def _body(request: Request) -> bytes:
    """The body, read no further than it may be. Raises ValueError."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_ACTION_BYTES:
            raise ValueError("too long")
    return body


def _refused(token: str, text: str, status: int) -> Response:
    return JSONResponse({"error": token, "text": text}, status)


def _file(name: str) -> Response:
    data = resources.files("agent.panel").joinpath("page", name).read_bytes()
    return Response(data, headers={"Content-Type": FILES[name]})
