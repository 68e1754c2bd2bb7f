"""The tables, told once for both databases.

`batches` is the truth: what came, as it came. `records` is made from it and can be made again. `streams`
holds how far each stream was read; it changes in the transaction that stores what it counts, which is what
makes a record exactly-once. `clock_corrections` and `amendments` come out of the records as well. The other
tables are dispatch's own doing.
"""

from __future__ import annotations

VERSION = 1

RECORD_COLUMNS = (
    "stream_id",
    "seq",
    "unit_id",
    "kind",
    "boot",
    "boottime_ms",
    "utc_ms",
    "utc_source",
    "utc_uncertainty_ms",
    "at_ms",
    "received_ms",
    "received_day",
    "history",
    "lat_deg",
    "lon_deg",
    "body",
    "batch_id",
)
"""Of `records`. `at_ms` is the UTC where it is known, else when it was received. `body` is JSON."""

BATCH_COLUMNS = ("batch_id", "topic", "received_ms", "received_day", "payload")

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);

CREATE TABLE IF NOT EXISTS units (
    unit_id INTEGER PRIMARY KEY, agency TEXT NOT NULL, unit TEXT NOT NULL, UNIQUE (agency, unit));

CREATE TABLE IF NOT EXISTS streams (
    stream_id INTEGER PRIMARY KEY, unit_id INTEGER NOT NULL, journal INTEGER NOT NULL, stream TEXT NOT NULL,
    ask_from INTEGER, highest INTEGER NOT NULL, holes TEXT NOT NULL,
    boots TEXT NOT NULL, UNIQUE (unit_id, journal, stream));

CREATE TABLE IF NOT EXISTS batches (
    batch_id INTEGER NOT NULL, topic TEXT NOT NULL, received_ms INTEGER NOT NULL,
    received_day INTEGER NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (batch_id, received_day)){BY_DAY};

CREATE TABLE IF NOT EXISTS records (
    stream_id INTEGER NOT NULL, seq INTEGER NOT NULL, unit_id INTEGER NOT NULL, kind INTEGER NOT NULL,
    boot INTEGER NOT NULL, boottime_ms INTEGER NOT NULL, utc_ms INTEGER, utc_source SMALLINT NOT NULL,
    utc_uncertainty_ms INTEGER, at_ms INTEGER NOT NULL, received_ms INTEGER NOT NULL,
    received_day INTEGER NOT NULL, history SMALLINT NOT NULL, lat_deg REAL, lon_deg REAL, body TEXT NOT NULL,
    batch_id INTEGER NOT NULL, PRIMARY KEY (stream_id, seq, received_day)){CLUSTERED}{BY_DAY};
CREATE INDEX IF NOT EXISTS records_of_a_unit ON records (unit_id, at_ms);
CREATE INDEX IF NOT EXISTS records_rare ON records (at_ms) WHERE kind NOT IN (4, 5, 6);

CREATE TABLE IF NOT EXISTS clock_corrections (
    correction_id INTEGER PRIMARY KEY, unit_id INTEGER NOT NULL, journal INTEGER NOT NULL,
    boot INTEGER NOT NULL, from_boottime_ms INTEGER NOT NULL, to_boottime_ms INTEGER NOT NULL,
    offset_ms INTEGER NOT NULL, utc_source SMALLINT NOT NULL, utc_uncertainty_ms INTEGER);

CREATE TABLE IF NOT EXISTS amendments (
    amendment_id INTEGER PRIMARY KEY, unit_id INTEGER NOT NULL, journal INTEGER NOT NULL,
    of_seq INTEGER NOT NULL, field TEXT NOT NULL, original TEXT, value TEXT, made_by TEXT,
    why TEXT, at_ms INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS amendments_of_a_unit ON amendments (unit_id, journal, of_seq);

CREATE TABLE IF NOT EXISTS states (
    unit_id INTEGER NOT NULL, name TEXT NOT NULL, received_ms INTEGER NOT NULL, payload BLOB NOT NULL,
    PRIMARY KEY (unit_id, name));

CREATE TABLE IF NOT EXISTS refused (
    refused_id INTEGER PRIMARY KEY, received_ms INTEGER NOT NULL, topic TEXT NOT NULL, agency TEXT NOT NULL,
    unit TEXT NOT NULL, reason TEXT NOT NULL, size_bytes INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS refused_counts (
    agency TEXT NOT NULL, unit TEXT NOT NULL, refused INTEGER NOT NULL, last_ms INTEGER NOT NULL,
    last_reason TEXT NOT NULL, PRIMARY KEY (agency, unit));

CREATE TABLE IF NOT EXISTS conflicts (
    conflict_id INTEGER PRIMARY KEY, stream_id INTEGER NOT NULL, seq INTEGER NOT NULL,
    received_ms INTEGER NOT NULL, boot INTEGER NOT NULL, boottime_ms INTEGER NOT NULL, kind INTEGER NOT NULL,
    body TEXT NOT NULL);

CREATE TABLE IF NOT EXISTS alarms (
    alarm_id INTEGER PRIMARY KEY, kind TEXT NOT NULL, priority TEXT NOT NULL, agency TEXT NOT NULL,
    unit TEXT NOT NULL, text TEXT NOT NULL, raised_ms INTEGER NOT NULL, journal INTEGER, seq INTEGER,
    cleared_ms INTEGER, acknowledged_ms INTEGER, acknowledged_by TEXT, closed_ms INTEGER, closed_by TEXT,
    shelved_until_ms INTEGER);
CREATE INDEX IF NOT EXISTS alarms_open ON alarms (agency, unit) WHERE closed_ms IS NULL;

CREATE TABLE IF NOT EXISTS commands (
    command_id TEXT PRIMARY KEY, agency TEXT NOT NULL, unit TEXT NOT NULL, name TEXT NOT NULL,
    fields TEXT NOT NULL, made_ms INTEGER NOT NULL, made_by TEXT NOT NULL, sent_ms INTEGER);
CREATE INDEX IF NOT EXISTS commands_waiting ON commands (made_ms) WHERE sent_ms IS NULL;

CREATE TABLE IF NOT EXISTS awaited (
    command_id TEXT PRIMARY KEY, agency TEXT NOT NULL, unit TEXT NOT NULL, name TEXT NOT NULL,
    until_ms INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS awaited_of_a_unit ON awaited (agency, unit);

CREATE TABLE IF NOT EXISTS replies (
    command_id TEXT NOT NULL, reply_number INTEGER NOT NULL, received_ms INTEGER NOT NULL,
    outcome TEXT NOT NULL, said TEXT NOT NULL, PRIMARY KEY (command_id, reply_number));

CREATE TABLE IF NOT EXISTS answers (
    stream_id INTEGER NOT NULL, seq INTEGER NOT NULL, agency TEXT NOT NULL, unit TEXT NOT NULL,
    status TEXT NOT NULL, asked_ms INTEGER NOT NULL, answered_ms INTEGER, verdict TEXT, token TEXT,
    sentence TEXT, decided_by TEXT, PRIMARY KEY (stream_id, seq));
CREATE INDEX IF NOT EXISTS answers_waiting ON answers (asked_ms) WHERE answered_ms IS NULL;

CREATE TABLE IF NOT EXISTS calls (
    call_id INTEGER PRIMARY KEY, agency TEXT NOT NULL, unit TEXT NOT NULL, incident TEXT NOT NULL,
    fields TEXT NOT NULL, assigned_ms INTEGER NOT NULL, received_ms INTEGER, shown_ms INTEGER,
    acknowledged_ms INTEGER, ended_ms INTEGER, ended_as TEXT);
CREATE INDEX IF NOT EXISTS calls_of_a_unit ON calls (agency, unit, assigned_ms);

CREATE TABLE IF NOT EXISTS actions (
    action_id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, who TEXT NOT NULL, role TEXT NOT NULL,
    action TEXT NOT NULL, agency TEXT NOT NULL, unit TEXT NOT NULL, detail TEXT NOT NULL);

CREATE TABLE IF NOT EXISTS deletions (
    deletion_id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, what TEXT NOT NULL,
    older_than_ms INTEGER NOT NULL, rows_gone INTEGER NOT NULL)
"""


def statements(*, whole_number: str, bytes_type: str, real: str, clustered: str, by_day: str) -> list[str]:
    """The statements that make the tables.

    Args:
        whole_number: name of a 64-bit integer.
        bytes_type: name of a string of bytes.
        real: name of a 64-bit float.
        clustered: what makes a table lie in the order of its key, or nothing.
        by_day: what parts a table by `received_day`, or nothing.
    """
    text = _TABLES.replace("{CLUSTERED}", clustered).replace("{BY_DAY}", by_day)
    if whole_number != "INTEGER":
        text = text.replace("INTEGER", whole_number)
    text = text.replace("BLOB", bytes_type).replace("REAL", real)
    return [one.strip() for one in text.split(";") if one.strip()]
