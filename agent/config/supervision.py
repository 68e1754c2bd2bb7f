"""How failing parts are started again, how the agent stops, and its log."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from agent.config.section import Section


class Supervision(Section):
    """How failing parts are started again, and how the agent stops."""

    backoff_min_s: float = Field(0.5, gt=0, le=86_400)
    """Pause before a part that failed is started again; it doubles with each failure."""
    backoff_max_s: float = Field(5, gt=0, le=86_400)
    """A crew that plugs the button box in again should not wait for half a minute."""
    restart_budget: int = Field(5, ge=0, le=1000)
    """Unexpected failures of one part within `restart_window_s` before the agent drains and exits."""
    restart_window_s: float = Field(300, gt=0, le=86_400)
    """See `restart_budget`."""
    progress_timeout_s: float = Field(20, ge=20, le=86_400)
    """A part that reports no progress for this long starves the watchdog."""
    stop_sources_s: float = Field(2, gt=0, le=86_400)
    """How long the devices may take to stop."""
    stop_outbox_s: float = Field(5, gt=0, le=86_400)
    """How long the store may take to write what is staged."""
    stop_uplink_s: float = Field(5, gt=0, le=86_400)
    """How long the uplink may take to send what is on its way."""

    @model_validator(mode="after")
    def _ordered(self) -> Supervision:
        if self.backoff_max_s < self.backoff_min_s:
            raise ValueError("backoff_max_s is below backoff_min_s")
        return self


class Log(Section):
    """The log: one structured line an event."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least important lines that are written."""
