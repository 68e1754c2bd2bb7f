"""Commands beside an agent judge certificates by its time, and by the system clock where there is none."""

from __future__ import annotations

import json
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.cli.daemon_time import certificates_at_unix_s, trusted_unix_s

NOW_S = 1_790_000_000.0
DAYS_20_S = 20 * 86_400


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ({"clock": {"utc_source": "gnss", "utc_unix_ms": 1_790_000_000_500}}, 1_790_000_000.5),
        ({"clock": {"utc_source": "ntp", "utc_unix_ms": 1_790_000_000_000}}, 1_790_000_000.0),
        ({"clock": {"utc_source": "last_known", "utc_unix_ms": 1_790_000_000_000}}, None),
        ({"clock": {"utc_source": "none", "utc_unix_ms": None}}, None),
        ({"clock": {"utc_source": "gnss", "utc_unix_ms": "soon"}}, None),
        ({"clock": {"utc_source": "gnss", "utc_unix_ms": True}}, None),
        ({"clock": {"utc_source": ["gnss"]}}, None),
        ({"clock": 7}, None),
        ({}, None),
        (None, None),
    ],
)
def test_only_a_time_that_the_agent_trusts_counts(status: Any, told: float | None) -> None:
    assert trusted_unix_s(status) == told


@contextmanager
def answering(answer: Any) -> Iterator[Path]:
    """A socket at which every question is answered so."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
        path = Path(folder) / "mdt.sock"
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            asker, _ = listening.accept()
            with asker:
                asker.recv(4096)
                asker.sendall(json.dumps(answer).encode() + b"\n")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path
        finally:
            thread.join(20)


@pytest.mark.parametrize(
    ("ahead_s", "judged_by_agent"), [(DAYS_20_S, True), (-DAYS_20_S, True), (30, False), (0, False)]
)
def test_the_agents_time_counts_where_the_system_clock_has_another(
    ahead_s: int, judged_by_agent: bool
) -> None:
    unix_ms = round((NOW_S + ahead_s) * 1000)
    with answering({"ok": {"clock": {"utc_source": "gnss", "utc_unix_ms": unix_ms}}}) as path:
        judged = certificates_at_unix_s(NOW_S, path)
    assert judged == (unix_ms / 1000 if judged_by_agent else None)


@pytest.mark.parametrize("answer", [{"ok": []}, {"ok": None}, {"error": "no"}, []])
def test_who_answers_nonsense_is_no_witness(answer: Any) -> None:
    with answering(answer) as path:
        assert certificates_at_unix_s(NOW_S, path) is None


def test_without_an_agent_the_system_clock_judges(tmp_path: Path) -> None:
    assert certificates_at_unix_s(NOW_S, tmp_path / "none.sock") is None
