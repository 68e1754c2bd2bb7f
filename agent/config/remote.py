"""What may be asked of the vehicle from outside: commands, and figures for a monitor on the same computer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from agent.config.section import Section

CommandName = Literal[
    "ping",
    "report-now",
    "diagnostics",
    "set-rate",
    "signals",
    "service",
    "config",
    "restart",
    "fetch",
    "keep",
    "acknowledge",
]
EVERY_COMMAND: tuple[CommandName, ...] = (
    "ping",
    "report-now",
    "diagnostics",
    "set-rate",
    "signals",
    "service",
    "config",
    "restart",
    "fetch",
    "keep",
    "acknowledge",
)


class Commands(Section):
    """What dispatch and fleet services may tell the vehicle, beside what is for the crew."""

    allowed: tuple[CommandName, ...] = EVERY_COMMAND
    """Commands that are done; others are refused. The broker's access rules say who may give which."""
    fetch_bytes_per_s: int = Field(20_000, ge=500, le=10_000_000)
    """Pace of a file that is fetched; it waits for presses and for a backlog anyhow."""


class Metrics(Section):
    """The agent's figures in OpenMetrics form, for a monitor on this computer."""

    port: int = Field(ge=1, le=65535)
    """TCP port on the loopback interface; without this table there is none."""
