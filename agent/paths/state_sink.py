"""Where a path says what is true now."""

from __future__ import annotations

from typing import Protocol

from agent.domain.state import State


class StateSink(Protocol):
    """Takes what is true now; newest wins."""

    def set_state(self, state: State) -> None:
        """Publish `state` at once, or as soon as the link is there."""
        ...
