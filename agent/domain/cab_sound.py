"""What the driver hears at once when a limit is passed; measured to change how ambulances are driven. Pure.

Levick and Swanson (AAAM 2005;49:35) found 0.018 miles between counts without and 15.8 with sound in the cab.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.domain.field import Token
from agent.domain.record import DrivingKind, ResponseMode

_NS = 1_000_000_000


class CabSound(Token):
    """What is heard."""

    LIMIT = "limit", "A limit of driving was passed."
    GRAVE = "grave", "It was passed by far: the graver grade."
    BELT = "belt", "A belt or a door is open in motion."


@dataclass(frozen=True, slots=True)
class SoundLimits:
    """When something is heard.

    Attributes:
        kinds: of driving that sound.
        modes: response modes in which they do; a mode that is not known counts as normal.
        quiet_after_call_ns: nothing is heard for so long after a call's own alert.
        apart_ns: least time between two sounds.
        again_ns: what lasts is heard again after so long.
    """

    kinds: frozenset[DrivingKind]
    modes: frozenset[ResponseMode]
    quiet_after_call_ns: int = 10 * _NS
    apart_ns: int = 3 * _NS
    again_ns: int = 30 * _NS


class CabSounds:
    """Decides what is heard. Not thread-safe; it is handed the time."""

    def __init__(self, limits: SoundLimits) -> None:
        self._limits = limits
        self._heard_ns: int | None = None
        self._heard: dict[DrivingKind, int] = {}

    def passed(
        self, kind: DrivingKind, grade: int, mode: ResponseMode | None, now_ns: int, call_ns: int | None
    ) -> CabSound | None:
        """A limit was passed just now.

        Args:
            kind: of driving.
            grade: 1, or 2 for the graver.
            mode: how the unit drives.
            now_ns: CLOCK_BOOTTIME.
            call_ns: when the crew was last alerted to a call; None for never.
        """
        limits = self._limits
        if kind not in limits.kinds or (mode or ResponseMode.NORMAL) not in limits.modes:
            return None
        if call_ns is not None and 0 <= now_ns - call_ns < limits.quiet_after_call_ns:
            return None
        if self._heard_ns is not None and 0 <= now_ns - self._heard_ns < limits.apart_ns:
            return None
        self._heard_ns = self._heard[kind] = now_ns
        if kind in (DrivingKind.BELT, DrivingKind.DOOR):
            return CabSound.BELT
        return CabSound.GRAVE if grade > 1 else CabSound.LIMIT

    def lasting(
        self, kinds: Mapping[DrivingKind, int], mode: ResponseMode | None, now_ns: int, call_ns: int | None
    ) -> CabSound | None:
        """What lasts, by kind and grade: heard again now and then, also when it began in a call's alert."""
        for kind, grade in kinds.items():
            heard_ns = self._heard.get(kind)
            if heard_ns is None or now_ns - heard_ns >= self._limits.again_ns:
                sound = self.passed(kind, grade, mode, now_ns, call_ns)
                if sound is not None:
                    return sound
        return None
