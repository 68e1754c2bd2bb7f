"""Records a second that one process at dispatch decodes and makes durable, on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.dispatch.intake import Intake, Message
from agent.dispatch.store.engine import engine_of
from agent.dispatch.store.schema import RECORD_COLUMNS
from agent.dispatch.store.store import Store
from agent.dispatch.unit_voice import UnitVoice
from agent.wire.topics import Topics
from hil.bench.figure import Figure, Target, middle
from hil.bench.setting import NotHereError, Setting
from hil.postgres_process import PostgresProcess, PostgresUnavailableError

RECORDS = 120_000
BATCH = 60
UNITS = 24
GROUP = 40
"""Batches in a transaction: what a service that falls behind finds waiting."""
TARGET = Target(20_000)
START_MS = 1_790_000_000_000


def measure(setting: Setting) -> list[Figure]:
    """From payloads to committed rows, raw batches and cursors; the peer inserts the same rows alone."""
    messages = _messages(setting.count(RECORDS, least=BATCH * UNITS))
    figures = [
        _figure(
            setting, "dispatch_store.sqlite", messages, lambda at: str(setting.fresh_folder(at) / "units.db")
        )
    ]
    try:
        with _cluster() as cluster:
            figures.append(
                _figure(setting, "dispatch_store.postgresql", messages, lambda _: cluster.new_database())
            )
    except NotHereError as reason:
        figures.append(Figure("dispatch_store.postgresql", None, "", "", None, note=str(reason)))
    return figures


def _figure(setting: Setting, name: str, messages: list[Message], new_url: Any) -> Figure:
    ours, peers = [], []
    for turn in range(setting.rounds):
        setting.say(f"{name}: round {turn + 1} of {setting.rounds}")
        ours.append(_stored(new_url(f"{name}-{turn}"), messages))
        peers.append(_inserted(new_url(f"{name}-{turn}-peer"), messages))
    return Figure(
        name, middle(ours), "records/s", "the same rows inserted, nothing else", middle(peers), TARGET
    )


def _stored(url: str, messages: list[Message]) -> float:
    store = Store(engine_of(url))
    try:
        intake = Intake(store.open())
        begun = time.perf_counter()
        for at in range(0, len(messages), GROUP):
            store.write(intake.hear(messages[at : at + GROUP]))
        seconds = time.perf_counter() - begun
        count = store.connection.query("SELECT count(*) FROM records")[0][0]
        assert count == len(messages) * BATCH
        return float(count / seconds)
    finally:
        store.close()


def _inserted(url: str, messages: list[Message]) -> float:
    """Rows that are made beforehand, in transactions of the same size."""
    store = Store(engine_of(url))
    try:
        intake = Intake(store.open())
        groups = []
        for at in range(0, len(messages), GROUP):
            heard = intake.hear(messages[at : at + GROUP])
            groups.append(
                [row for n, batch in enumerate(heard.batches) for row in store.record_rows(batch, n)]
            )
        for day in {row[RECORD_COLUMNS.index("received_day")] for rows in groups for row in rows}:
            store.engine.before_insert(store.connection, "records", day)
        begun = time.perf_counter()
        for rows in groups:
            with store.connection.transaction():
                store.connection.insert_new("records", RECORD_COLUMNS, rows)
        return len(messages) * BATCH / (time.perf_counter() - begun)
    finally:
        store.close()


def _messages(records: int) -> list[Message]:
    voices = [UnitVoice(Topics("boston-ems", f"A{number}"), number) for number in range(1, UNITS + 1)]
    rounds = max(1, records // (BATCH * UNITS))
    return [
        Message(*voice.positions(1 + turn * BATCH, BATCH, START_MS + turn * BATCH * 1000), START_MS)
        for turn in range(rounds)
        for voice in voices
    ]


@contextmanager
def _cluster() -> Iterator[PostgresProcess]:
    directory = Path(tempfile.mkdtemp(prefix="mdt-pg-", dir="/tmp"))
    try:
        cluster = PostgresProcess(directory)
        with cluster:
            yield cluster
    except PostgresUnavailableError as error:
        raise NotHereError(str(error)) from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)
