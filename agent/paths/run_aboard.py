"""Who is aboard, under which call sign, and whether the crew takes calls: records and `state/unit`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from agent.config.crew import Crew
from agent.domain.record import CrewRecord, CrewStep, Made
from agent.domain.roster import Roster
from agent.domain.stamp import Utc, UtcSource
from agent.domain.state import UnitState
from agent.domain.status import REASON
from agent.paths.run_records import RunRecords
from agent.paths.state_sink import StateSink
from agent.wire.orders import SignOn


class RunAboard:
    """The roster, as page and dispatch change it. Used from the event loop.

    Args:
        settings: the table `[crew]`.
        call_sign: of this unit, by the configuration.
        records: where records go.
        states: where `state/unit` is published.
        on_change: called after each change.
    """

    def __init__(
        self,
        settings: Crew,
        call_sign: str,
        records: RunRecords,
        states: StateSink,
        on_change: Callable[[], object],
    ) -> None:
        self._settings = settings
        self._call_sign = call_sign
        self._records = records
        self._states = states
        self._on_change = on_change
        self.roster = Roster(call_sign, settings.vehicle or call_sign)
        self._shift_since: Utc | None = None

    # ------------------------------------------------------------------ across a restart

    def remembered(self) -> dict[str, Any]:
        """What a restart must know, JSON-able."""
        roster, since = self.roster, self._shift_since
        return {
            "call_sign": roster.call_sign,
            "crew": list(roster.crew),
            "driver": roster.driver,
            "for_calls": roster.available_for_calls,
            "since": None if since is None else [since.unix_ms, int(since.source)],
        }

    def restore(self, given: Mapping[str, Any]) -> None:
        """Take up where the last run ended. Raises ValueError, TypeError or LookupError for nonsense."""
        roster = replace(self.roster, available_for_calls=given["for_calls"] is True)
        if given["crew"]:
            roster = roster.signed_on(given["crew"], given["driver"], str(given["call_sign"]))
        since = given["since"]
        self._shift_since = None if since is None else Utc(int(since[0]), UtcSource(since[1]), None)
        self.roster = roster

    # ------------------------------------------------------------------ changes

    def on_sign_on(self, order: SignOn) -> None:
        """Dispatch says who is aboard."""
        try:
            self.sign_on(order.crew, order.driver, order.call_sign, Made.DISPATCH)
        except ValueError as error:
            self._records.refuse("sign-on", order.id, "malformed", str(error))

    def sign_on(self, crew: tuple[str, ...], driver: str | None, call_sign: str | None, made: Made) -> None:
        """A crew comes aboard, or somebody else drives; an empty crew signs off. Raises ValueError."""
        before = self.roster
        if not crew:
            self.sign_off(made)
            return
        self.roster = before.signed_on(crew, driver, call_sign)
        step = CrewStep.DRIVER if set(crew) == set(before.crew) and driver != before.driver else CrewStep.ON
        if before.crew != crew:
            self._shift_since = self._records.utc()
        self._tell(step, made)

    def sign_off(self, made: Made) -> None:
        """The crew leaves."""
        self.roster, self._shift_since = self.roster.signed_off(self._call_sign), None
        self._tell(CrewStep.OFF, made)

    def actions(self) -> dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]:
        """What the crew's page may ask for, by its word."""
        return {
            "available_for_calls": lambda given: self._for_calls(given["value"] is True, given.get("reason")),
            "sign_on": lambda given: self._page_sign_on(given["crew"]),
            "sign_off": lambda _: self._page_sign_off(),
        }

    def _for_calls(self, value: bool, reason: object) -> Mapping[str, Any]:  # an answer
        if value is not self.roster.available_for_calls:
            self.roster = replace(self.roster, available_for_calls=value)
            step = CrewStep.FOR_CALLS if value else CrewStep.NOT_FOR_CALLS
            self._tell(step, Made.PANEL, _reason(reason) if not value else None)
        return {"ok": True}

    def _page_sign_on(self, crew: Any) -> Mapping[str, Any]:
        if not isinstance(crew, list) or not crew:
            return {"error": "malformed", "text": "Give the crew ids, the driver first."}
        try:
            self.sign_on(tuple(crew), crew[0], None, Made.PANEL)
        except ValueError as error:
            return {"error": "malformed", "text": str(error)}
        return {"ok": True}

    def _page_sign_off(self) -> Mapping[str, Any]:
        self.sign_off(Made.PANEL)
        return {"ok": True}

    def _tell(self, step: CrewStep, made: Made, reason: str | None = None) -> None:
        roster = self.roster
        self._records.put(
            CrewRecord(
                str(step),
                roster.crew,
                driver=roster.driver,
                call_sign=roster.call_sign,
                made=str(made),
                reason=reason,
            )
        )
        self.tell_unit()
        self._on_change()

    def tell_unit(self) -> None:
        """Say who and what this unit is."""
        roster, utc = self.roster, self._records.utc()
        self._states.set_state(
            UnitState(
                boottime_ms=self._records.now_ns() // 1_000_000,
                utc=utc,
                call_sign=roster.call_sign,
                vehicle=roster.vehicle,
                capabilities=self._settings.capabilities or None,
                crew=roster.crew or None,
                driver=roster.driver,
                shift_since=self._shift_since,
            )
        )


def _reason(given: object) -> str | None:
    return given if isinstance(given, str) and REASON.fullmatch(given) is not None else None
