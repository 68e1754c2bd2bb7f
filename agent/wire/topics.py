"""Every MQTT topic of the project.

`ems/v1/{agency}/{unit}/` followed by

=====================  ========  =======================================================
`state/{name}`         retained  what is true now, one topic a state
`journal/{stream}`     QoS 1     events, trail: batches of records
`command/{name}`       QoS 1     to the unit: do this
`reply/{name}`         QoS 1     what the unit answers to that command
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
    REPLY = "reply"
    RECEIPT = "receipt"


REPLAY = "replay"
NEW_JOURNAL = "new-journal"
REPORT_NOW = "report-now"
COMMANDS: dict[str, str] = {
    REPLAY: "Send these records again.",
    NEW_JOURNAL: "Begin a new journal: this one has two records under one number.",
    "answer": "Dispatch accepts or refuses a status, an emergency or an amendment.",
    "assign": "A call for this unit.",
    "update": "News of a call that the unit has.",
    "cancel": "A call is taken back.",
    "cancel-emergency": "Dispatch knows that an emergency is over.",
    "message": "A message or a coded order for the crew.",
    "amend": "Correct a record of the events.",
    "crew": "Sign somebody on or off.",
    "acknowledge": "Dispatch has seen an emergency or an alarm.",
    "ping": "Are you there?",
    REPORT_NOW: "Send position and states at once.",
    "diagnostics": "Send the device's own report.",
    "set-rate": "Report at another rate for a while.",
    "signals": "Send vehicle signals at a rate for a while.",
    "service": "A service was done.",
    "config": "Change the configuration.",
    "restart": "Start the agent anew.",
    "keep": "Keep the vehicle's data of the last seconds, and of the next, as a recording.",
    "fetch": "Send a recording or a report in pieces.",
}
"""Every command topic, what it is for. A unit answers one that it does not do with `unknown_command`."""

_LEVEL = r"[A-Za-z0-9_-]{1,64}"
_TOPIC = re.compile(
    rf"{ROOT}/(?P<agency>{_LEVEL})/(?P<unit>{_LEVEL})/(?P<area>state|journal|command|reply|receipt)(?:/(?P<name>[a-z-]+))?"
)
_NAMES: dict[Area, frozenset[str]] = {
    Area.STATE: frozenset(STATE_TYPES),
    Area.JOURNAL: frozenset(stream.value for stream in Stream),
    Area.COMMAND: frozenset(COMMANDS),
    Area.REPLY: frozenset(COMMANDS),
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
        """Topic of a retained state. Raises ValueError for one that there is not."""
        return self._topic(Area.STATE, name)

    def journal(self, stream: Stream) -> str:
        """Topic of a journal stream's batches."""
        return self._topic(Area.JOURNAL, stream.value)

    def command(self, name: str) -> str:
        """Topic on which the unit is told to do something. Raises ValueError for an unknown command."""
        return self._topic(Area.COMMAND, name)

    def reply(self, name: str) -> str:
        """Topic on which the unit answers a command. Raises ValueError for an unknown one."""
        return self._topic(Area.REPLY, name)

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
        name: state, stream or command; empty for a receipt.
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
    return tuple(f"{root}/{area.value}/+" for area in (Area.STATE, Area.JOURNAL, Area.REPLY))
