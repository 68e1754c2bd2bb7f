"""Stores of both kinds, and messages of units."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.postgres_process import PostgresProcess, PostgresUnavailableError


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresProcess]:
    """A cluster for the whole session; skipped where PostgreSQL is not installed."""
    directory = Path(tempfile.mkdtemp(prefix="mdt-pg-", dir="/tmp"))
    try:
        try:
            cluster = PostgresProcess(directory)
        except PostgresUnavailableError as error:
            pytest.skip(str(error))
        with cluster:
            yield cluster
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a fresh store may live."""
    if request.param == "sqlite":
        return str(tmp_path / "units.db")
    cluster: PostgresProcess = request.getfixturevalue("postgres")
    return cluster.new_database()
