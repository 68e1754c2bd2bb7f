"""Changes of this computer's network."""

from __future__ import annotations

from dataclasses import dataclass

from agent.hal.feed import Feed


@dataclass(frozen=True, slots=True)
class NetworkChange:
    """An interface came up or went down, or an address or route came or went.

    Attributes:
        what: one plain phrase for the log, such as "wwan0 up" or "address 192.0.2.7 gone".
    """

    what: str


NetworkFeed = Feed[NetworkChange]
