"""Who is aboard: crew ids are pseudonyms, names stay in the dispatch system."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

CREW_ID = re.compile(r"[A-Za-z0-9_-]{1,16}")
MOST_ABOARD = 6


@dataclass(frozen=True, slots=True)
class Roster:
    """Who is aboard now.

    Attributes:
        call_sign: the unit that this vehicle is, for this shift.
        vehicle: the vehicle itself; stays the same when it takes over another call sign.
        crew: crew ids; empty when nobody signed on, which is not the same as nobody being aboard.
        driver: id of who drives; None when that was not told.
        available_for_calls: whether the crew takes calls, apart from the status.
    """

    call_sign: str
    vehicle: str
    crew: tuple[str, ...] = ()
    driver: str | None = None
    available_for_calls: bool = True

    @property
    def alone(self) -> str | None:
        """Who did what the crew did, where there is only one: of several nobody knows which."""
        return self.crew[0] if len(self.crew) == 1 else None

    def signed_on(self, crew: Sequence[str], driver: str | None, call_sign: str | None = None) -> Roster:
        """The roster after a crew signed on.

        Raises:
            ValueError: an id that is none, too many, the same twice, or a driver who is not aboard.
        """
        for one in crew:
            if not isinstance(one, str) or CREW_ID.fullmatch(one) is None:
                raise ValueError(f"{one!r:.40} is no crew id: 1 to 16 letters, digits, hyphens, underscores")
        if not 1 <= len(crew) <= MOST_ABOARD:
            raise ValueError(f"1 to {MOST_ABOARD} people can sign on")
        if len(set(crew)) != len(crew):
            raise ValueError("a crew id stands twice")
        if driver is not None and driver not in crew:
            raise ValueError("the driver is not among the crew")
        return replace(self, crew=tuple(crew), driver=driver, call_sign=call_sign or self.call_sign)

    def signed_off(self, call_sign: str) -> Roster:
        """The roster after the crew left; the vehicle is its own call sign again."""
        return replace(self, crew=(), driver=None, call_sign=call_sign)

    def driven_by(self, driver: str) -> Roster:
        """The roster after somebody else took the wheel. Raises ValueError for somebody who is not aboard."""
        if driver not in self.crew:
            raise ValueError("the driver is not among the crew")
        return replace(self, driver=driver)
