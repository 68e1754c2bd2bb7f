"""How failing parts are started again, how the agent stops, and its log."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from agent.config.section import Section


class Supervision(Section):
    """How failing parts are started again, and how the agent stops."""

    backoff_min_s: float = Field(0.5, gt=0)
    backoff_max_s: float = Field(5, gt=0)
    """A crew that plugs the button box in again should not wait for half a minute."""
    restart_budget: int = Field(5, ge=0)
    """Unexpected failures of one part within `restart_window_s` before the agent drains and exits."""
    restart_window_s: float = Field(300, gt=0)
    progress_timeout_s: float = Field(20, ge=20)
    """A part that reports no progress for this long starves the watchdog."""
    stop_sources_s: float = Field(2, gt=0)
    stop_outbox_s: float = Field(5, gt=0)
    stop_uplink_s: float = Field(5, gt=0)


class Log(Section):
    """The log: one structured line an event."""

    level: Literal["debug", "info", "warning", "error"] = "info"
