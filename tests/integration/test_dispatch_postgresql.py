"""The service on PostgreSQL: killed, the server killed, restarted, and its disk full, while units speak."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from agent.dispatch.unit_voice import UnitVoice
from agent.wire.topics import Topics
from hil.broker_process import BrokerOptions, Mosquitto, find_mosquitto
from hil.dispatch_process import DispatchProcess
from hil.postgres_process import PostgresProcess, PostgresUnavailableError
from tests.integration.spoken_vehicle import A1, UTC_MS, WITHIN_S, Vehicle, wait_until

pytestmark = [
    pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed"),
    pytest.mark.timeout(300),
]
A2 = UnitVoice(Topics("boston-ems", "A2"), journal=9)
BATCHES, SIZE = 60, 5


@pytest.fixture
def cluster() -> Iterator[PostgresProcess]:
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


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker", BrokerOptions()) as broker:
        yield broker


def stored(url: str) -> list[tuple[str, str, int]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT units.unit, streams.stream, records.seq FROM records JOIN units USING (unit_id) "
            "JOIN streams USING (stream_id) ORDER BY 1, 2, 3"
        ).fetchall()


def told(service: DispatchProcess) -> dict[str, Any]:
    found: dict[str, Any] = service.ask("/api/v1/service")
    return found


def confirmed_by(vehicles: list[Vehicle]) -> set[tuple[str, str, int]]:
    """Every record that a receipt said is safe."""
    return {
        (unit, stream, seq)
        for unit, vehicle in zip(("A1", "A2"), vehicles, strict=True)
        for stream, through in list(vehicle.receipts.items())
        for seq in range(1, through + 1)
    }


def speak(vehicle: Vehicle, voice: UnitVoice, pause: threading.Event) -> None:
    for number in range(BATCHES):
        vehicle.say_positions(1 + number * SIZE, SIZE)
        vehicle.say(voice.status(1 + number, "available", UTC_MS + 1000 * number))
        pause.wait(0.02)


def test_the_server_and_the_service_killed_at_any_moment_lose_nothing_and_double_nothing(
    tmp_path: Path, broker: Mosquitto, cluster: PostgresProcess
) -> None:
    url = cluster.new_database()
    service = DispatchProcess(tmp_path / "d", f"mqtt://127.0.0.1:{broker.port}", store=url)
    service.start()
    wait_until(lambda: told(service)["well"], "the subscription")
    vehicles = [Vehicle(broker.port, voice) for voice in (A1, A2)]
    chance = random.Random(5)
    pause = threading.Event()

    speaking = [
        threading.Thread(target=speak, args=(*pair, pause), name=f"speaks-{pair[1].topics.unit}")
        for pair in zip(vehicles, (A1, A2), strict=True)
    ]
    try:
        for one in speaking:
            one.start()
        for turn in range(4):
            pause.wait(chance.uniform(0.05, 0.5))
            if turn % 2:
                service.kill()
            else:
                cluster.kill()
                confirmed = confirmed_by(vehicles)
                cluster.start()
                assert confirmed <= set(stored(url)), "the server lost what it had said was safe"
            confirmed = confirmed_by(vehicles)
            assert confirmed <= set(stored(url)), "a receipt went out before its commit"
            if turn % 2:
                service.start()
        for one in speaking:
            one.join(WITHIN_S)
        for vehicle in vehicles:
            wait_until(lambda v=vehicle: v.receipts.get("trail") == BATCHES * SIZE, "the last receipt")  # type: ignore[misc]
            wait_until(lambda v=vehicle: v.receipts.get("events") == BATCHES, "the last press")  # type: ignore[misc]
        wait_until(lambda: told(service)["well"], "the page to be well again")
    finally:
        for vehicle in vehicles:
            vehicle.close()
        service.stop()
    wanted = sorted(
        (unit, stream, seq)
        for unit in ("A1", "A2")
        for stream, count in (("events", BATCHES), ("trail", BATCHES * SIZE))
        for seq in range(1, count + 1)
    )
    assert stored(url) == wanted


def test_a_database_that_restarts_is_told_and_loses_nothing(
    tmp_path: Path, broker: Mosquitto, cluster: PostgresProcess
) -> None:
    url = cluster.new_database()
    with DispatchProcess(tmp_path / "d", f"mqtt://127.0.0.1:{broker.port}", store=url) as service:
        wait_until(lambda: told(service)["well"], "the subscription")
        vehicle = Vehicle(broker.port)
        for number in range(20):
            vehicle.say_positions(1 + 5 * number, 5)
            if number == 8:
                cluster.stop("immediate")
            if number == 14:
                wait_until(lambda: told(service)["store"] != "", "the page to say so")
                assert service.status_of("/api/v1/events?since=0&until=1") == 503
                cluster.start()
        wait_until(lambda: vehicle.receipts.get("trail") == 100, "the last receipt")
        vehicle.close()
        sizes = told(service)["sizes"]
        assert (sizes["records"], sizes["missing"]) == (100, 0)


def test_a_full_disk_of_the_database_is_told_and_loses_nothing(
    tmp_path: Path, broker: Mosquitto, cluster: PostgresProcess
) -> None:
    small = Path(tempfile.mkdtemp(prefix="mdt-small-", dir="/tmp"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        small.rmdir()
        pytest.skip("a small file system can not be mounted here")
    try:
        tables = small / "tables"
        tables.mkdir()
        small.chmod(0o755)
        url = cluster.new_database(tables)
        with DispatchProcess(tmp_path / "d", f"mqtt://127.0.0.1:{broker.port}", store=url) as service:
            wait_until(lambda: told(service)["well"], "the subscription")
            vehicle = Vehicle(broker.port)
            vehicle.say_positions(1, 5)
            wait_until(lambda: vehicle.receipts.get("trail") == 5, "the first receipt")
            filler = small / "filler"
            with filler.open("wb") as out:
                try:
                    while True:
                        out.write(bytes(65_536))
                        out.flush()
                except OSError:
                    pass  # now it is full
            first = 6
            while told(service)["store"] == "":
                vehicle.say_positions(first, 50)
                first += 50
                assert first < 20_000, "the disk does not become full"
            confirmed = vehicle.receipts["trail"]
            assert confirmed < first - 1
            filler.unlink()
            wait_until(
                lambda: vehicle.receipts.get("trail") == first - 1, "the rest, once there is room again"
            )
            vehicle.close()
            wait_until(lambda: told(service)["well"], "the service to be well")
        assert [seq for _, _, seq in stored(url)] == list(range(1, first))
    finally:
        cluster.stop("immediate")
        subprocess.run(["umount", "-l", str(small)], check=False)
        small.rmdir()
