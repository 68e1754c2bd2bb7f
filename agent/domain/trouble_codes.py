"""Trouble codes of control units: what is active, and when one came or went. Pure rules."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.domain.record import CodeStage, TroubleCode

GONE_AFTER_NS = 5_000_000_000
"""A control unit repeats its active codes every second; one that it left out for so long is gone."""
MOST_CODES = 200
"""Active at a time. A vehicle that burns has some dozens; more is a bus that lies."""
TOLD_AT_ONCE = 20
REFILL_NS = 60_000_000_000
"""Records in a row, and in the long run one in this time: a code that flickers must not fill the store."""


@dataclass(frozen=True, slots=True)
class Lamps:
    """Warning lamps of a J1939 control unit (DM1 bytes 1 and 2); None where it does not have one."""

    malfunction: bool | None
    stop: bool | None
    warning: bool | None
    protect: bool | None

    def lit(self) -> tuple[str, ...]:
        """The names of those that are lit."""
        names = ("malfunction", "stop", "warning", "protect")
        return tuple(name for name in names if getattr(self, name))


@dataclass(frozen=True, slots=True)
class Code:
    """A J1939 trouble code.

    Attributes:
        spn: what has a fault.
        fmi: how it fails.
        occurrences: how often it came; None when the control unit does not count.
    """

    spn: int
    fmi: int
    occurrences: int | None


@dataclass(slots=True)
class _Active:
    code: Code
    lamps: tuple[str, ...]
    heard_ns: int


class Allowance:
    """Bounds how many codes are told: some in a row, then one in a while."""

    def __init__(self) -> None:
        self._spent = 0.0
        self._spent_ns = 0

    def take(self, at_ns: int) -> bool:
        """Whether one more may be told."""
        self._spent = max(0.0, self._spent - max(0, at_ns - self._spent_ns) / REFILL_NS)
        self._spent_ns = max(self._spent_ns, at_ns)
        if self._spent + 1 > TOLD_AT_ONCE:
            return False
        self._spent += 1
        return True


class ActiveCodes:
    """Which codes are active in which control unit. Not thread-safe; it is handed the time."""

    def __init__(self) -> None:
        self._active: dict[tuple[int, int, int], _Active] = {}
        self._untold: set[tuple[int, int, int]] = set()
        self._allowance = Allowance()

    def take(self, controller: int, lamps: Lamps, codes: list[Code], at_ns: int) -> list[TroubleCode]:
        """Take what a control unit says is active now; a record for each code that came."""
        came: list[TroubleCode] = []
        for code in codes:
            key = (controller, code.spn, code.fmi)
            known = self._active.get(key)
            if known is not None:
                known.code, known.lamps, known.heard_ns = code, lamps.lit(), at_ns
                continue
            if len(self._active) >= MOST_CODES:
                continue
            self._active[key] = _Active(code, lamps.lit(), at_ns)
            if self._allowance.take(at_ns):
                came.append(_record(controller, self._active[key], active=True))
            else:
                self._untold.add(key)
        return came

    def expire(self, now_ns: int) -> list[TroubleCode]:
        """A record for each code that is gone; what came untold goes untold."""
        gone: list[TroubleCode] = []
        for key, active in list(self._active.items()):
            if now_ns - active.heard_ns <= GONE_AFTER_NS:
                continue
            del self._active[key]
            if key in self._untold:
                self._untold.discard(key)
            else:
                gone.append(_record(key[0], active, active=False))
        return gone

    def snapshot(self) -> list[str]:
        """The active codes for a person, sorted."""
        return sorted(
            f"SPN {spn} FMI {fmi} of control unit {controller}" for controller, spn, fmi in self._active
        )


class PolledCodes:
    """Codes of control units that were asked: each answer has all of them. Not thread-safe."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, CodeStage], set[str]] = {}
        self._allowance = Allowance()

    def take(self, controller: int, stage: CodeStage, codes: list[str], at_ns: int) -> list[TroubleCode]:
        """Take all codes of a control unit; a record for each that came or went since it was asked last."""
        known = self._known.setdefault((controller, stage), set())
        told: list[TroubleCode] = []
        for code in sorted(known.symmetric_difference(codes)):
            came = code in codes
            if came and (len(known) >= MOST_CODES or not self._allowance.take(at_ns)):
                continue  # as long as it is not known, the next answer brings it again
            (known.add if came else known.discard)(code)
            told.append(TroubleCode(active=came, code=code, controller=controller, stage=stage))
        return told

    def snapshot(self) -> list[str]:
        """The codes for a person, sorted."""
        return sorted(
            f"{code} of control unit {controller}, {stage}"
            for (controller, stage), codes in self._known.items()
            for code in codes
        )


class PreviousCodes:
    """Codes that control units say they had (J1939 DM2), each told once. Not thread-safe."""

    def __init__(self) -> None:
        self._told: set[tuple[int, int, int]] = set()
        self._allowance = Allowance()

    def take(self, controller: int, lamps: Lamps, codes: list[Code], at_ns: int) -> list[TroubleCode]:
        """A record for each code that was not told since the start."""
        told: list[TroubleCode] = []
        for code in codes:
            key = (controller, code.spn, code.fmi)
            if key in self._told or len(self._told) >= MOST_CODES or not self._allowance.take(at_ns):
                continue
            self._told.add(key)
            record = _record(controller, _Active(code, lamps.lit(), at_ns), active=False)
            told.append(replace(record, stage=CodeStage.PREVIOUS))
        return told


def _record(controller: int, known: _Active, *, active: bool) -> TroubleCode:
    return TroubleCode(
        active=active,
        spn=known.code.spn,
        fmi=known.code.fmi,
        occurrences=known.code.occurrences,
        lamps=known.lamps,
        controller=controller,
        stage=CodeStage.CONFIRMED,
    )
