"""When the computer itself is not well: heat, supply, memory and the card. A pure rule."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domain.health import HealthReason
from agent.domain.modem import ModemState

HOT_C = 80.0
"""A Pi slows itself down at 80 to 85 degrees, and turns off above."""
LEAST_MEMORY_MIB = 48.0
LEAST_DISK_SHARE, LEAST_DISK_MIB = 0.05, 64.0
WORN_PERCENT = 80.0


@dataclass(frozen=True, slots=True)
class ComputerState:
    """What was read of the computer. None is "not known": a missing file is never 0.

    Attributes:
        cpu_c: temperature of the processor.
        is_under_voltage: the supply is too weak now.
        was_under_voltage: it was, at some moment since the computer started.
        is_throttled: the processor is slowed down now.
        memory_free_mib: what programs can still get.
        disk_free_mib: room for the agent on the data disk.
        disk_mib: size of the data disk.
        disk_read_only: the data disk is mounted read-only.
        disk_errors: errors that the file system counted since it was made.
        disk_worn_percent: how much of its life the card has used, in steps of 10; None for most SD cards.
        uptime_s: since the computer started.
        modem: what the modem manager tells; None where there is none to ask.
    """

    cpu_c: float | None = None
    is_under_voltage: bool | None = None
    was_under_voltage: bool | None = None
    is_throttled: bool | None = None
    memory_free_mib: float | None = None
    disk_free_mib: float | None = None
    disk_mib: float | None = None
    disk_read_only: bool | None = None
    disk_errors: int | None = None
    disk_worn_percent: float | None = None
    uptime_s: float | None = None
    modem: ModemState | None = None


def unwell(state: ComputerState) -> dict[HealthReason, str]:
    """The reasons that hold, each with its figure. What is not known gives none."""
    found: dict[HealthReason, str] = {}
    if state.cpu_c is not None and state.cpu_c >= HOT_C:
        found[HealthReason.COMPUTER_HOT] = f"{state.cpu_c:.0f} degrees"
    if state.is_under_voltage:
        found[HealthReason.UNDER_VOLTAGE] = "now"
    elif state.was_under_voltage:
        found[HealthReason.UNDER_VOLTAGE] = "since the computer started"
    if state.memory_free_mib is not None and state.memory_free_mib < LEAST_MEMORY_MIB:
        found[HealthReason.MEMORY_LOW] = f"{state.memory_free_mib:.0f} MiB left"
    if state.disk_free_mib is not None and state.disk_mib:
        share = state.disk_free_mib / state.disk_mib
        if share < LEAST_DISK_SHARE or state.disk_free_mib < LEAST_DISK_MIB:
            found[HealthReason.DISK_LOW] = f"{state.disk_free_mib:.0f} MiB left, {share:.0%}"
    if state.disk_errors:
        found[HealthReason.DISK_ERRORS] = f"{state.disk_errors} counted by the file system"
    if state.disk_worn_percent is not None and state.disk_worn_percent >= WORN_PERCENT:
        found[HealthReason.DISK_WORN] = f"{state.disk_worn_percent:.0f} % of its life is used"
    return found


REASONS = (
    HealthReason.COMPUTER_HOT,
    HealthReason.UNDER_VOLTAGE,
    HealthReason.MEMORY_LOW,
    HealthReason.DISK_LOW,
    HealthReason.DISK_ERRORS,
    HealthReason.DISK_WORN,
)
"""Those that `unwell` may give."""
