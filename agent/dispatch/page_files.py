"""The page's files: ours beside this module, the map library out of its wheel, the streets as configured."""

from __future__ import annotations

import importlib.resources
import mimetypes
from importlib.resources.abc import Traversable
from pathlib import Path

from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse, Response

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; media-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""No script but ours runs, whatever a unit sends; the map library sets styles of elements."""


def add_page(app: FastAPI, streets: Path | None) -> None:
    """Serve the page at /."""
    ours = importlib.resources.files("agent.dispatch") / "page"
    leaflet = importlib.resources.files("js_lib_leaflet") / "static" / "js_lib_leaflet"

    @app.get("/", include_in_schema=False)
    def index() -> Response:
        return _served(ours, "index.html")

    @app.get("/page/{name}", include_in_schema=False)
    def own_file(name: str) -> Response:
        return _served(ours, name)

    @app.get("/leaflet/{name}", include_in_schema=False)
    def library(name: str) -> Response:
        return _served(leaflet, name)

    @app.get("/leaflet/images/{name}", include_in_schema=False)
    def library_image(name: str) -> Response:
        return _served(leaflet / "images", name)

    @app.get("/streets.geojson", include_in_schema=False)
    def street_file() -> Response:
        if streets is None or not streets.is_file():
            raise HTTPException(404, "no streets are configured")
        return FileResponse(streets, media_type="application/geo+json")


def _served(folder: Traversable, name: str) -> Response:
    """One file of a folder; names are compared with what lies there, never joined blindly."""
    found = {one.name: one for one in folder.iterdir() if one.is_file()}.get(name)
    if found is None:
        raise HTTPException(404, "no such file")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
    return Response(found.read_bytes(), media_type=kind, headers=headers)
