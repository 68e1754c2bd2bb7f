"""Dispatch's own doings in the store: actions, commands, answers, calls and alarms.

On the writing thread only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from agent.dispatch.access import Who
from agent.dispatch.commands import COMMANDS
from agent.dispatch.queries import ALARM_COLUMNS, CALL_COLUMNS
from agent.dispatch.store.engine import Connection
from agent.dispatch.store.store import Store
from agent.wire.reader_request import Reply
from agent.wire.topics import Topics

_KIND_CLASSES = {
    "positions_days": ("positions", "kind = 4"),
    "telemetry_days": ("telemetry and health", "kind IN (5, 6)"),
    "events_days": ("events", "kind NOT IN (4, 5, 6)"),
}
DAY_MS = 86_400_000


UNANSWERED = "unanswered"
"""Outcome of a command that nobody answered in its time; units have no such word."""


class Unsent(NamedTuple):
    """A command that is to be sent.

    Attributes:
        command_id: by which the unit knows it.
        topics: whose.
        name: of the table of commands.
        fields: what it carries.
        by: who gave it.
        until_ms: when it is too late, in Unix milliseconds; None when that is not known.
    """

    command_id: str
    topics: Topics
    name: str
    fields: dict[str, Any]
    by: str
    until_ms: int | None


class Ledger:
    """Writes what people and rules decide. Every method is one transaction and raises StoreError.

    Args:
        store: open.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def _connection(self) -> Connection:
        return self._store.connection

    def act(self, who: Who, action: str, topics: Topics | None, detail: dict[str, Any], now_ms: int) -> None:
        """Keep who did what."""
        with self._connection.transaction():
            self._act(who, action, topics, detail, now_ms)

    def command(
        self,
        who: Who,
        name: str,
        topics: Topics,
        fields: dict[str, Any],
        *,
        command_id: str,
        now_ms: int,
        valid_s: float | None = None,
    ) -> bool:
        """Keep a command with the action that gave it; False when this id was given before."""
        with self._connection.transaction():
            known = self._connection.query(
                "SELECT count(*) FROM commands WHERE command_id = :id", {"id": command_id}
            )
            if known[0][0]:
                return False
            self._connection.execute(
                "INSERT INTO commands (command_id, agency, unit, name, fields, made_ms, made_by) "
                "VALUES (:id, :agency, :unit, :name, :fields, :now, :who)",
                {
                    "id": command_id,
                    "agency": topics.agency,
                    "unit": topics.unit,
                    "name": name,
                    "fields": json.dumps(fields),
                    "now": now_ms,
                    "who": who.name,
                },
            )
            self._await(command_id, name, topics, now_ms, valid_s)
            self._act(who, name, topics, {"id": command_id, **fields}, now_ms)
            self._follow_call(name, topics, fields, now_ms)
        return True

    def command_sent(self, command_id: str, now_ms: int) -> None:
        """The broker has it."""
        with self._connection.transaction():
            self._connection.execute(
                "UPDATE commands SET sent_ms = :now WHERE command_id = :id", {"id": command_id, "now": now_ms}
            )

    def unsent(self) -> list[Unsent]:
        """Commands that the broker does not have, or a unit that came back has not answered; oldest first."""
        rows = self._connection.query(
            "SELECT commands.command_id, commands.agency, commands.unit, commands.name, fields, made_by, "
            "until_ms FROM commands LEFT JOIN awaited ON awaited.command_id = commands.command_id "
            "WHERE sent_ms IS NULL ORDER BY made_ms LIMIT 500"
        )
        return [
            Unsent(command_id, Topics(agency, unit), name, json.loads(fields), by, until_ms)
            for command_id, agency, unit, name, fields, by, until_ms in rows
        ]

    def say_again(self, topics: Topics) -> int:
        """A unit connected anew: what it did not answer is to be sent again; returns how much.

        A unit's session ends with its connection, so that a call of an hour ago does not ring. A call that is
        over here by now is not said again either.
        """
        with self._connection.transaction():
            return self._connection.execute(
                "UPDATE commands SET sent_ms = NULL WHERE sent_ms IS NOT NULL AND command_id IN "
                "(SELECT command_id FROM awaited WHERE agency = :agency AND unit = :unit) "
                "AND (name NOT IN ('assign', 'update') OR EXISTS (SELECT 1 FROM calls WHERE "
                "calls.agency = :agency AND calls.unit = :unit AND ended_ms IS NULL "
                "AND calls.assigned_ms <= commands.made_ms))",
                {"agency": topics.agency, "unit": topics.unit},
            )

    def give_up(self, now_ms: int) -> list[str]:
        """Commands whose time is over without an answer: that is their result; returns their ids."""
        rows = self._connection.query(
            "SELECT command_id, agency, unit, name FROM awaited WHERE until_ms < :now", {"now": now_ms}
        )
        if rows:
            with self._connection.transaction():
                for command_id, agency, unit, name in rows:
                    text = "The unit did not answer while it was worth doing."
                    reply = Reply(name, UNANSWERED, command_id, text=text)
                    self._store.keep_reply(Topics(agency, unit), reply, now_ms)
                    self._connection.execute(
                        "UPDATE commands SET sent_ms = coalesce(sent_ms, :now) WHERE command_id = :id",
                        {"id": command_id, "now": now_ms},
                    )
        return [row[0] for row in rows]

    def answer(self, who: Who, topics: Topics, fields: dict[str, Any], command_id: str, now_ms: int) -> bool:
        """Decide on a status; False when there is no such status or it was decided."""
        stream_id = self._store.stream_id(topics, fields["journal"], fields["stream"])
        if stream_id is None:
            return False
        with self._connection.transaction():
            decided = self._connection.execute(
                "UPDATE answers SET answered_ms = :now, verdict = :verdict, token = :token, "
                "sentence = :sentence, decided_by = :who "
                "WHERE stream_id = :stream AND seq = :seq AND answered_ms IS NULL",
                {
                    "now": now_ms,
                    "verdict": fields["verdict"],
                    "token": fields.get("token"),
                    "sentence": fields.get("sentence"),
                    "who": who.name,
                    "stream": stream_id,
                    "seq": fields["seq"],
                },
            )
            if not decided:
                return False
            self._connection.execute(
                "INSERT INTO commands (command_id, agency, unit, name, fields, made_ms, made_by) "
                "VALUES (:id, :agency, :unit, 'answer', :fields, :now, :who) ON CONFLICT DO NOTHING",
                {
                    "id": command_id,
                    "agency": topics.agency,
                    "unit": topics.unit,
                    "fields": json.dumps(fields),
                    "now": now_ms,
                    "who": who.name,
                },
            )
            self._await(command_id, "answer", topics, now_ms, None)
            if who.role == "dispatch" and who.name != "the service":
                self._act(who, "answer", topics, fields, now_ms)
        return True

    # ------------------------------------------------------------------ alarms

    def open_alarms(self) -> list[dict[str, Any]]:
        """Alarms that nobody closed, oldest first."""
        rows = self._connection.query(
            f"SELECT {', '.join(ALARM_COLUMNS)} FROM alarms WHERE closed_ms IS NULL ORDER BY alarm_id"
        )
        return [dict(zip(ALARM_COLUMNS, row, strict=True)) for row in rows]

    def open_calls(self) -> list[dict[str, Any]]:
        """Calls that have not ended, oldest first."""
        rows = self._connection.query(
            f"SELECT {', '.join(CALL_COLUMNS)} FROM calls WHERE ended_ms IS NULL ORDER BY call_id"
        )
        found = [dict(zip(CALL_COLUMNS, row, strict=True)) for row in rows]
        for one in found:
            one["fields"] = json.loads(one["fields"])
        return found

    def apply_alarms(
        self, raised: Sequence[dict[str, Any]], cleared: Sequence[tuple[int, int, bool]]
    ) -> None:
        """Open new alarms; note those whose cause went, as (id, when, close at once)."""
        with self._connection.transaction():
            for one in raised:
                number = self._connection.query("SELECT coalesce(max(alarm_id), 0) + 1 FROM alarms")[0][0]
                self._connection.execute(
                    "INSERT INTO alarms (alarm_id, kind, priority, agency, unit, text, raised_ms) "
                    "VALUES (:id, :kind, :priority, :agency, :unit, :text, :raised_ms)",
                    one | {"id": number},
                )
            for number, when_ms, close in cleared:
                self._connection.execute(
                    "UPDATE alarms SET cleared_ms = :now WHERE alarm_id = :id AND cleared_ms IS NULL",
                    {"id": number, "now": when_ms},
                )
                if close:
                    self._connection.execute(
                        "UPDATE alarms SET closed_ms = :now, closed_by = 'cleared by itself' "
                        "WHERE alarm_id = :id AND closed_ms IS NULL",
                        {"id": number, "now": when_ms},
                    )

    def alarm_step(self, who: Who, alarm_id: int, step: str, now_ms: int, until_ms: int | None) -> str | None:
        """Acknowledge, close or shelve an alarm; returns why not, or None when done."""
        with self._connection.transaction():
            rows = self._connection.query(
                "SELECT priority, agency, unit, acknowledged_ms, cleared_ms, closed_ms FROM alarms "
                "WHERE alarm_id = :id",
                {"id": alarm_id},
            )
            if not rows:
                return "there is no such alarm"
            priority, agency, unit, acknowledged_ms, cleared_ms, closed_ms = rows[0]
            why_not = _why_not(step, priority, closed_ms, acknowledged_ms, cleared_ms)
            if why_not is not None or (step == "acknowledge" and acknowledged_ms is not None):
                return why_not
            change = {
                "acknowledge": "acknowledged_ms = :now, acknowledged_by = :who",
                "close": "closed_ms = :now, closed_by = :who",
                "shelve": "shelved_until_ms = :until",
            }[step]
            values: dict[str, Any] = {"id": alarm_id, "now": now_ms, "who": who.name}
            if step == "shelve":
                values = {"id": alarm_id, "until": until_ms}
            self._connection.execute(f"UPDATE alarms SET {change} WHERE alarm_id = :id", values)
            self._act(who, f"alarm_{step}", Topics(agency, unit), {"alarm_id": alarm_id}, now_ms)
        return None

    # ------------------------------------------------------------------ retention

    def expire(self, days: dict[str, int], now_ms: int) -> list[dict[str, Any]]:
        """Delete what is older than it may be, and keep a report of what went."""
        report = []
        with self._connection.transaction():
            for name, (what, where) in _KIND_CLASSES.items():
                if days[name] > 0:
                    limit_ms = now_ms - days[name] * DAY_MS
                    gone = self._connection.execute(
                        f"DELETE FROM records WHERE at_ms < :limit AND received_ms < :limit AND {where}",
                        {"limit": limit_ms},
                    )
                    report.append({"what": what, "older_than_ms": limit_ms, "rows": gone})
            if days["telemetry_days"] > 0:
                limit_ms = now_ms - days["telemetry_days"] * DAY_MS
                gone = self._connection.execute(
                    "DELETE FROM replies WHERE received_ms < :limit", {"limit": limit_ms}
                )
                report.append({"what": "answers to commands", "older_than_ms": limit_ms, "rows": gone})
            if days["raw_days"] > 0:
                limit_ms = now_ms - days["raw_days"] * DAY_MS
                gone = self._store.engine.drop_days(self._connection, "batches", limit_ms // DAY_MS)
                report.append({"what": "raw batches", "older_than_ms": limit_ms, "rows": gone})
            report = [one for one in report if one["rows"]]
            for one in report:
                number = self._connection.query("SELECT coalesce(max(deletion_id), 0) + 1 FROM deletions")[0][
                    0
                ]
                self._connection.execute(
                    "INSERT INTO deletions VALUES (:id, :now, :what, :older_than_ms, :rows)",
                    one | {"id": number, "now": now_ms},
                )
        return report

    # ------------------------------------------------------------------ inside of a transaction

    def _await(self, command_id: str, name: str, topics: Topics, now_ms: int, valid_s: float | None) -> None:
        self._connection.execute(
            "INSERT INTO awaited VALUES (:id, :agency, :unit, :name, :until) ON CONFLICT DO NOTHING",
            {
                "id": command_id,
                "agency": topics.agency,
                "unit": topics.unit,
                "name": name,
                "until": now_ms + round(1000 * (valid_s or COMMANDS[name].valid_s)),
            },
        )

    def _act(self, who: Who, action: str, topics: Topics | None, detail: dict[str, Any], now_ms: int) -> None:
        number = self._connection.query("SELECT coalesce(max(action_id), 0) + 1 FROM actions")[0][0]
        self._connection.execute(
            "INSERT INTO actions VALUES (:id, :now, :who, :role, :action, :agency, :unit, :detail)",
            {
                "id": number,
                "now": now_ms,
                "who": who.name,
                "role": who.role,
                "action": action,
                "agency": "" if topics is None else topics.agency,
                "unit": "" if topics is None else topics.unit,
                "detail": json.dumps(detail),
            },
        )

    def _follow_call(self, name: str, topics: Topics, fields: dict[str, Any], now_ms: int) -> None:
        """A call as dispatch has it, beside the command that told the unit."""
        values: dict[str, Any] = {
            "agency": topics.agency,
            "unit": topics.unit,
            "incident": fields.get("incident"),
            "now": now_ms,
        }
        where = "WHERE agency = :agency AND unit = :unit AND incident = :incident AND ended_ms IS NULL"
        if name == "assign":
            number = self._connection.query("SELECT coalesce(max(call_id), 0) + 1 FROM calls")[0][0]
            # A unit that is sent elsewhere leaves the call that it was on: both clocks stay.
            self._connection.execute(
                "UPDATE calls SET ended_ms = :now, ended_as = 'diverted' "
                "WHERE agency = :agency AND unit = :unit AND ended_ms IS NULL",
                {key: values[key] for key in ("agency", "unit", "now")},
            )
            self._connection.execute(
                "INSERT INTO calls (call_id, agency, unit, incident, fields, assigned_ms) "
                "VALUES (:id, :agency, :unit, :incident, :fields, :now)",
                values | {"id": number, "fields": json.dumps(fields)},
            )
        elif name == "update":
            rows = self._connection.query(f"SELECT call_id, fields FROM calls {where}", _without_now(values))
            for call_id, text in rows:
                self._connection.execute(
                    "UPDATE calls SET fields = :fields WHERE call_id = :id",
                    {"id": call_id, "fields": json.dumps(json.loads(text) | fields)},
                )
        elif name == "cancel":
            self._connection.execute(
                f"UPDATE calls SET ended_ms = :now, ended_as = 'cancelled' {where}",
                values,
            )


def _without_now(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "now"}


def _why_not(
    step: str, priority: str, closed_ms: int | None, acknowledged_ms: int | None, cleared_ms: int | None
) -> str | None:
    """What forbids a step with an alarm; None when nothing does."""
    refusals = {
        "it is closed": closed_ms is not None,
        "an emergency is never shelved": step == "shelve" and priority == "high",
        "acknowledge it first": step == "close" and acknowledged_ms is None,
        "the emergency is still active": step == "close" and priority == "high" and cleared_ms is None,
    }
    return next((why for why, holds in refusals.items() if holds), None)
