"""Puts together what a unit sent in pieces, and holds it against the digest that it told."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

_NAME = re.compile(r"[^A-Za-z0-9._-]")


class IncompleteError(Exception):
    """There is no whole file yet; the text says what is missing."""


def whole(command: dict[str, Any]) -> tuple[str, bytes]:
    """Name and content of what a `fetch` brought.

    Args:
        command: as `queries.command` gives it.

    Raises:
        IncompleteError: pieces are missing, or they are not what the digest is of.
    """
    content = bytearray()
    digest, name, size = None, command["id"], None
    for piece in sorted(_pieces(command), key=lambda one: one["offset"]):
        at, data = piece["offset"], base64.b64decode(piece["data"], validate=True)
        if at > len(content):
            raise IncompleteError(f"bytes {len(content)} to {at - 1} are missing")
        content[at : at + len(data)] = data
        digest = piece.get("sha256") or digest
        name, size = str(piece.get("name") or name), piece.get("size") or size
    if digest is None or size is None or len(content) < size:
        raise IncompleteError(
            f"{len(content)} of {'an unknown number of' if size is None else size} bytes are here"
        )
    if hashlib.sha256(content).hexdigest() != digest:
        raise IncompleteError("the pieces are not what the vehicle took the digest of")
    return _NAME.sub("_", name)[:100], bytes(content)


def _pieces(command: dict[str, Any]) -> list[dict[str, Any]]:
    """The pieces among the answers; what is none is passed over."""
    found = []
    for reply in command["replies"]:
        try:
            piece = json.loads(reply.get("result") or "null")
            if (
                isinstance(piece, dict)
                and type(piece.get("offset")) is int
                and isinstance(piece.get("data"), str)
            ):
                base64.b64decode(piece["data"], validate=True)
                found.append(piece)
        except ValueError:
            continue
    return found
