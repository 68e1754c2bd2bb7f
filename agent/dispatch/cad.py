"""Asks a CAD by webhook whether a status counts. A CAD that says nothing clear has not decided."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from pydantic import ValidationError

from agent.dispatch.commands import Answer, told

MAX_BYTES = 65_536


class NoDecisionError(Exception):
    """The CAD did not decide; the text says why, for the log."""


def ask(url: str, status: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """POST a status as JSON and read `{"verdict": "accepted" or "refused", "token": ..., "sentence": ...}`.

    Blocking. Redirects are not followed: what the CAD is stands in the configuration.

    Args:
        url: http:// or https://.
        status: agency, unit, journal, stream, seq, status and asked_ms.
        timeout_s: for the whole conversation, near enough.

    Returns:
        The fields of an `answer` command.

    Raises:
        NoDecisionError: no answer, or none that can be used.
    """
    request = urllib.request.Request(  # noqa: S310  # the configuration takes http and https only
        url,
        data=json.dumps(status).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    try:
        with _OPENER.open(request, timeout=timeout_s) as answer:
            given = json.loads(answer.read(MAX_BYTES))
        if not isinstance(given, dict):
            raise NoDecisionError("the answer is no object")
        chosen = {name: given.get(name) for name in ("verdict", "token", "sentence")}
        keys = {name: status[name] for name in ("journal", "stream", "seq")}
        return told(Answer.model_validate(chosen | keys))
    except (OSError, ValueError, ValidationError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        raise NoDecisionError(f"{type(error).__name__}: {str(error)[:200]}") from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None: the answer stands as the error that it is."""


_OPENER = urllib.request.build_opener(_NoRedirect)
