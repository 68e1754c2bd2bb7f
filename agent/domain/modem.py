"""When the modem is not well. A pure rule."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domain.health import HealthReason

WEAK_PERCENT = 15
"""Below it most modems lose the network now and then."""
MODEM_REASONS = (
    HealthReason.MODEM_LOST,
    HealthReason.MODEM_FAILED,
    HealthReason.MODEM_NO_NETWORK,
    HealthReason.MODEM_WEAK,
)
_ATTACHED = ("registered", "connecting", "connected", "disconnecting")


@dataclass(frozen=True, slots=True)
class ModemState:
    """What was read of the modem. None is "not known", never 0.

    Attributes:
        is_there: False when there is a modem manager, and no modem.
        state: such as "connected", "searching", "locked", "failed".
        signal_percent: strength, 0 to 100.
        technology: "2G" to "5G".
        operator: name of the network.
        model: of the modem.
    """

    is_there: bool
    state: str | None = None
    signal_percent: int | None = None
    technology: str | None = None
    operator: str | None = None
    model: str | None = None


def modem_unwell(modem: ModemState | None, *, was_there: bool) -> dict[HealthReason, str]:
    """The reasons that hold, each with its detail. A vehicle that never had a modem lacks none.

    Args:
        modem: None when nobody can be asked.
        was_there: whether there was one in this run.
    """
    if modem is None:
        return {}
    if not modem.is_there:
        return {HealthReason.MODEM_LOST: "it was there before"} if was_there else {}
    if modem.state in ("locked", "failed", "disabled"):
        return {HealthReason.MODEM_FAILED: f"it is {modem.state}"}
    if modem.state is not None and modem.state not in _ATTACHED:
        return {HealthReason.MODEM_NO_NETWORK: f"it is {modem.state}"}
    if modem.signal_percent is not None and modem.signal_percent < WEAK_PERCENT:
        return {HealthReason.MODEM_WEAK: f"{modem.signal_percent} % of {modem.technology or '?'}"}
    return {}
