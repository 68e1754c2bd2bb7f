"""Every MQTT topic of the project.

`ems/v1/{agency}/{unit}/` followed by

=====================  ========  =======================================================
`state/{name}`         retained  link, location, status, vehicle, health: true now
`journal/{stream}`     QoS 1     events, trail: batches of records
`command/{name}`       QoS 1     to the unit; "replay" asks for records again
`receipt`              QoS 1     to the unit; dispatch has the records up to a sequence
=====================  ========  =======================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from agent.domain.record import Stream
from agent.domain.state import STATE_TYPES

ROOT = "ems/v1"
"""Changes with the meaning of topics; a payload carries a version of its own."""


class Area(StrEnum):
    """What a topic is for."""

    STATE = "state"
    JOURNAL = "journal"
    COMMAND = "command"
    RECEIPT = "receipt"


REPLAY = "replay"
"""The one command there is."""

_LEVEL = r"[A-Za-z0-9._-]{1,64}"
_TOPIC = re.compile(
    rf"{ROOT}/(?P<agency>{_LEVEL})/(?P<unit>{_LEVEL})/(?P<area>state|journal|command|receipt)(?:/(?P<name>[a-z]+))?"
)
_NAMES: dict[Area, frozenset[str]] = {
    Area.STATE: frozenset(STATE_TYPES),
    Area.JOURNAL: frozenset(stream.value for stream in Stream),
    Area.COMMAND: frozenset({REPLAY}),
    Area.RECEIPT: frozenset({""}),
}


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one unit.

    Attributes:
        agency: first level below the root.
        unit: second level.
    """

    agency: str
    unit: str

    def state(self, name: str) -> str:
        """Topic of a retained state: link, location, status, vehicle or health. Raises ValueError."""
        return self._topic(Area.STATE, name)

    def journal(self, stream: Stream) -> str:
        """Topic of a journal stream's batches."""
        return self._topic(Area.JOURNAL, stream.value)

    def command(self, name: str) -> str:
        """Topic on which the unit is told something; "replay" is the one there is. Raises ValueError."""
        return self._topic(Area.COMMAND, name)

    @property
    def receipt(self) -> str:
        """Topic on which dispatch says what it has."""
        return f"{self._root}/{Area.RECEIPT.value}"

    @property
    def _root(self) -> str:
        return f"{ROOT}/{self.agency}/{self.unit}"

    def _topic(self, area: Area, name: str) -> str:
        if name not in _NAMES[area]:
            raise ValueError(f"no {area.value} topic {name!r}; known are {', '.join(sorted(_NAMES[area]))}")
        return f"{self._root}/{area.value}/{name}"


@dataclass(frozen=True, slots=True)
class ParsedTopic:
    """A topic taken apart.

    Attributes:
        topics: whose it is.
        area: what it is for.
        name: state name, stream or command; empty for a receipt.
    """

    topics: Topics
    area: Area
    name: str


def parse_topic(topic: str) -> ParsedTopic | None:
    """Take a topic apart; None when it is none of the project's."""
    match = _TOPIC.fullmatch(topic)
    if match is None:
        return None
    area, name = Area(match["area"]), match["name"] or ""
    if name not in _NAMES[area]:
        return None
    return ParsedTopic(Topics(match["agency"], match["unit"]), area, name)


def subscriptions(agency: str | None = None, unit: str | None = None) -> tuple[str, ...]:
    """Filters for everything that units say: of one unit, of an agency, or of all when both are None."""
    root = f"{ROOT}/{agency or '+'}/{unit or '+'}"
    return (f"{root}/{Area.STATE.value}/+", f"{root}/{Area.JOURNAL.value}/+")
