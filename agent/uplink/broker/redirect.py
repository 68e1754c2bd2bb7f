"""Following a broker's "use another server" (MQTT 5.0, 4.11)."""

from __future__ import annotations

import re

from agent.config import Broker

_REFERENCE = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]{1,253}))(?::(?P<port>\d{1,5}))?"
)
_MOST_PORT = 65_535


def redirected(broker: Broker, reference: str) -> Broker | None:
    """The same broker's settings at another address, TLS and credentials unchanged. None if it is none.

    Where TLS is used, the other server has to prove its own name to the same authority.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        return None
    port = int(match["port"] or broker.port)
    if not 0 < port <= _MOST_PORT:
        return None
    return broker.model_copy(update={"host": match["six"] or match["host"], "port": port})
