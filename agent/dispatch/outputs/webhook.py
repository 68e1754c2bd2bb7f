"""A webhook: the units that changed, as JSON, by POST; repeated until taken, with the newest picture."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from agent.dispatch.outputs.mqtt_json import told
from agent.dispatch.outputs.output import OutputError, OutputSettings, Publish, UnitPicture

_TIMEOUT_S = 10


class WebhookOutput:
    """`{"made_ms": ..., "units": [...]}`; with `token_file` an Authorization header is sent."""

    def __init__(self, settings: OutputSettings, _publish: Publish) -> None:
        if settings.url is None or not settings.url.startswith(("http://", "https://")):
            raise ValueError("output webhook: url is http:// or https://")
        self._url = settings.url
        self._token_file = None if settings.token_file is None else Path(settings.token_file)
        self._taken: dict[str, dict[str, object]] = {}

    async def give(self, units: Sequence[UnitPicture], now_ms: int) -> None:
        """See `Output.give`."""
        picture = {f"{unit['agency']}/{unit['unit']}": told(unit) for unit in units}
        changed = {key: one for key, one in picture.items() if self._taken.get(key) != one}
        if not changed:
            return
        payload = json.dumps({"made_ms": now_ms, "units": list(changed.values())}).encode()
        try:
            await asyncio.to_thread(post, self._url, payload, self._token_file)
        except OSError as error:
            raise OutputError(f"webhook {self._url}: {error}") from error
        self._taken |= changed

    async def close(self) -> None:
        """See `Output.close`."""


def post(url: str, payload: bytes, token_file: Path | None) -> None:
    """POST a JSON document. Raises OSError for whatever is not taken."""
    headers = {"Content-Type": "application/json"}
    if token_file is not None:
        headers["Authorization"] = f"Bearer {token_file.read_text(encoding='utf-8').strip()}"
    request = urllib.request.Request(url, payload, headers)  # noqa: S310  # http or https by the settings
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            answer.read(1024)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        raise
