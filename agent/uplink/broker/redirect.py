"""Following a broker's "use another server" (MQTT 5.0, 4.11)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agent.config import Broker

_REFERENCE = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]{1,253}))(?::(?P<port>\d{1,5}))?"
)
_MOST_PORT = 65_535


def redirected(broker: Broker, reference: str, configured: Sequence[Broker]) -> Broker | None:
    """Where a broker sends us, if the configuration lists it; None for anything else.

    Whoever answers there is shown our user name and password, so a broker's word alone is not enough. A
    listed broker is used with its own settings. A host of `redirect_hosts` is used with those of the broker
    that names it, TLS and credentials unchanged: with TLS it has to prove its own name to the same authority.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        return None
    host, port = match["six"] or match["host"], int(match["port"] or broker.port)
    if not 0 < port <= _MOST_PORT:
        return None
    for other in configured:
        if (other.host.lower(), other.port) == (host.lower(), port):
            return other
    if host.lower() not in {one.lower() for one in broker.redirect_hosts}:
        return None
    return broker.model_copy(update={"host": host, "port": port})
