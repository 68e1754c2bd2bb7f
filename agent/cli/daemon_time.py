"""What the running agent knows of the time, for commands beside it: the computer's clock may be weeks off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.supervision.daemon_answer import DEFAULT_SOCKET, DaemonAwayError, ask

TRUSTED = ("gnss", "ntp")


def trusted_unix_s(status: Mapping[str, Any] | None) -> float | None:
    """The UTC of an agent's status; None where there is none that it trusts."""
    clock = (status or {}).get("clock")
    if not isinstance(clock, Mapping) or clock.get("utc_source") not in TRUSTED:
        return None
    unix_ms = clock.get("utc_unix_ms")
    return unix_ms / 1000 if type(unix_ms) is int and unix_ms > 0 else None


def certificates_at_unix_s(system_unix_s: float, socket: Path = DEFAULT_SOCKET) -> float | None:
    """By which time the broker's certificates are to be judged here: the agent's, if it has another than we.

    None leaves them to the system clock, as where no agent runs.
    """
    from agent.uplink.link.credentials import CLOCK_AGREES_WITHIN_S

    if not socket.exists():
        return None
    try:
        status = ask(socket, "status")
    except DaemonAwayError:
        return None
    unix_s = trusted_unix_s(status if isinstance(status, Mapping) else None)
    if unix_s is None or abs(unix_s - system_unix_s) <= CLOCK_AGREES_WITHIN_S:
        return None
    return unix_s
