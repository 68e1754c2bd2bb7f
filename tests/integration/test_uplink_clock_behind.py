"""The system clock is weeks behind and the broker's certificate newer than it: the best UTC judges.

The clock of this computer is left alone: the true time of these tests lies twenty days ahead of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent import config
from agent.app.daemon import Daemon
from agent.app.devices import validate
from agent.app.vehicle_platform import VehiclePlatform
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.stamp import Utc, UtcSource
from agent.outbox.outbox import Outbox
from agent.runtime.worker import ThreadWorker
from agent.uplink.link.credentials import DatesError, check_dates, judged_at_unix_s
from agent.uplink.link.link import Closed, LinkEvent, Opened, Opening
from agent.uplink.link.paho_link import PahoLink
from agent.uplink.publisher import Publisher
from agent.wire.topics import Topics
from firmware_shims.system_clock import SystemClock
from hil.broker_process import BrokerOptions, BrokerTls, Mosquitto, find_mosquitto
from hil.drive.nmea_writer import sentence
from hil.private_ca import Certificate, OpensslUnavailableError, PrivateCa

pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
BEHIND = timedelta(days=20)


CLOCK = SystemClock()


def true_now() -> datetime:
    return datetime.fromtimestamp(CLOCK.system_utc().unix_ms / 1000, UTC) + BEHIND


@pytest.fixture
def ca(tmp_path: Path) -> PrivateCa:
    try:
        made = PrivateCa(tmp_path / "ca")
        assert made.ca_file.exists()
    except OpensslUnavailableError as error:
        pytest.skip(str(error))
    return made


def issued(
    ca: PrivateCa, begins_days: float, ends_days: float, names: str = "IP:127.0.0.1,DNS:localhost"
) -> Certificate:
    """A broker's certificate; days count from the true time."""
    made = ca.issue("broker", alternative_names=names)
    now = true_now()
    return ca.redated(made, now + timedelta(days=begins_days), now + timedelta(days=ends_days))


def broker_with(tmp_path: Path, made: Certificate, chain: str = "") -> Mosquitto:
    file = tmp_path / "presented.crt"
    file.write_text(made.certificate_file.read_text() + chain)
    return Mosquitto(tmp_path / "broker", BrokerOptions(tls=BrokerTls(file, made.key_file)))


def answer(port: int, ca_file: Path, at: datetime | None) -> LinkEvent:
    """What a link says first when it is opened at that time; None for a time that is not known."""

    async def work() -> LinkEvent:
        events: asyncio.Queue[LinkEvent] = asyncio.Queue()
        link = PahoLink()
        way = config.Broker(host="127.0.0.1", port=port, tls=config.Tls(ca_file=ca_file))
        at_unix_s = None if at is None else at.timestamp()
        link.open(Opening(way, "veh", 20, 20, certificates_at_unix_s=at_unix_s), events.put_nowait)
        try:
            async with asyncio.timeout(60):
                return await events.get()
        finally:
            await link.close()

    return asyncio.run(work())


def refused(event: LinkEvent, words: str) -> None:
    assert isinstance(event, Closed), event
    assert event.reason == "tls_failed"
    assert words in event.detail


def test_unit_connects_as_soon_as_gnss_tells_the_time(tmp_path: Path, ca: PrivateCa) -> None:
    utc: Utc | None = None

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.02)

    async def work(port: int) -> None:
        nonlocal utc
        health, clock = HealthBoard(), CLOCK
        outbox = Outbox(config.Store(directory=tmp_path / "store"), clock, ThreadWorker(), health)
        await outbox.open()
        way = config.Broker(host="127.0.0.1", port=port, tls=config.Tls(ca_file=ca.ca_file))
        # The back-off alone would not try again within this test.
        settings = config.Uplink(brokers=(way,), reconnect_min_s=600, reconnect_max_s=600)
        publisher = Publisher(
            settings,
            Topics("bems", "A1"),
            outbox,
            PahoLink(),
            clock,
            health,
            rng=random.Random(2),
            utc_now=lambda: utc,
        )
        tasks = [asyncio.create_task(part.run(lambda: None)) for part in (outbox, publisher)]
        try:
            await until(lambda: HealthReason.TLS_FAILED in health.reasons())
            assert "not yet valid by this computer's clock" in health.details()[HealthReason.TLS_FAILED]
            utc = Utc(round(true_now().timestamp() * 1000), UtcSource.GNSS, 100)
            await until(lambda: publisher.connected)
            assert HealthReason.TLS_FAILED not in health.reasons()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await publisher.drain(3)
            await outbox.close()

    with broker_with(tmp_path, issued(ca, -1, 60)) as broker:
        asyncio.run(work(broker.port))


@pytest.mark.parametrize(
    ("begins_days", "ends_days", "words"), [(-19, -1, "expired: it ended on"), (1, 60, "not yet valid")]
)
def test_certificate_that_is_not_valid_by_the_best_utc_is_refused(
    tmp_path: Path, ca: PrivateCa, begins_days: float, ends_days: float, words: str
) -> None:
    with broker_with(tmp_path, issued(ca, begins_days, ends_days)) as broker:
        refused(answer(broker.port, ca.ca_file, true_now()), words)


def test_certificate_that_only_the_system_clock_takes_is_refused(tmp_path: Path, ca: PrivateCa) -> None:
    with broker_with(tmp_path, issued(ca, -30, -1)) as broker:
        assert isinstance(answer(broker.port, ca.ca_file, None), Opened)
        refused(answer(broker.port, ca.ca_file, true_now()), "expired")


def test_name_and_chain_stay_verified_where_the_dates_are_ours_to_judge(
    tmp_path: Path, ca: PrivateCa
) -> None:
    other = PrivateCa(tmp_path / "other", "other authority")
    with broker_with(tmp_path, issued(ca, -1, 60, "DNS:elsewhere")) as broker:
        refused(answer(broker.port, ca.ca_file, true_now()), "mismatch")
    with broker_with(tmp_path, issued(ca, -1, 60)) as broker:
        refused(answer(broker.port, other.ca_file, true_now()), "unable to get local issuer")
        assert isinstance(answer(broker.port, ca.ca_file, true_now()), Opened)


def test_authority_that_ended_is_refused_and_its_successor_taken(tmp_path: Path, ca: PrivateCa) -> None:
    now = true_now()
    old = ca.redated(ca.authority, now - timedelta(days=90), now - timedelta(days=2)).certificate_file
    new = ca.redated(ca.authority, now - timedelta(days=3), now + timedelta(days=900)).certificate_file
    both = tmp_path / "both.pem"
    both.write_text(old.read_text() + new.read_text())
    # The broker still presents the old one beside its own.
    with broker_with(tmp_path, issued(ca, -1, 60), chain=old.read_text()) as broker:
        refused(answer(broker.port, old, now), "no authority is valid")
        assert isinstance(answer(broker.port, both, now), Opened)


def test_chain_that_can_not_be_read_is_refused() -> None:
    with pytest.raises(DatesError, match="can not be read"):
        check_dates([], 1_790_000_000)
    for mangled in (b"", b"\x30\x03\x02\x01\x01", b"\x30\x82\xff"):
        with pytest.raises(DatesError, match="can not be read"):
            check_dates([mangled], 1_790_000_000)


@pytest.mark.parametrize(
    ("utc", "expected"),
    [
        (None, None),
        (Utc(5_000_000_000, UtcSource.LAST_KNOWN, None), None),
        (Utc(1_000_060_000, UtcSource.GNSS, 1), None),
        (Utc(1_000_061_000, UtcSource.GNSS, 1), 1_000_061.0),
        (Utc(900_000_000, UtcSource.NTP, 1), 900_000.0),
    ],
)
def test_system_clock_judges_unless_a_trusted_utc_contradicts_it(
    utc: Utc | None, expected: float | None
) -> None:
    assert judged_at_unix_s(utc, 1_000_000.0) == expected


def test_a_whole_agent_connects_once_its_receiver_tells_the_time(tmp_path: Path, ca: PrivateCa) -> None:
    """From the receiver's bytes to the broker: only the system clock is behind."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # a socket's path is short

    async def receiver(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await speaking.wait()
            while speaking.is_set():
                now = true_now()
                time, day = f"{now:%H%M%S}.{now.microsecond // 10_000:02d}", f"{now:%d%m%y}"
                where = "4221.50000,N,07103.90000,W"
                writer.write(sentence(f"GNRMC,{time},A,{where},0.0,,{day},,,A"))
                writer.write(sentence(f"GNGGA,{time},{where},1,09,0.80,12.0,M,-28.0,M,,"))
                await writer.drain()
                await asyncio.sleep(0.25)
        writer.close()

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(90):
            while not condition():
                await asyncio.sleep(0.05)

    async def work(port: int) -> None:
        server = await asyncio.start_server(receiver, "127.0.0.1", 0)
        table = {
            "unit": {"agency": "bems", "unit": "A1"},
            "store": {"directory": str(folder / "store")},
            "status_socket": str(folder / "mdt.sock"),
            "device": [{"kind": "gnss_tcp", "host": "127.0.0.1", "port": server.sockets[0].getsockname()[1]}],
            "uplink": {
                "brokers": [{"host": "127.0.0.1", "port": port, "tls": {"ca_file": str(ca.ca_file)}}],
                "reconnect_min_s": 0.5,
                "reconnect_max_s": 1,
            },
        }
        daemon = Daemon(validate(table, folder / "agent.toml"), VehiclePlatform())
        running = asyncio.create_task(daemon.run())
        try:
            await until(lambda: HealthReason.TLS_FAILED in daemon.health.reasons() or running.done())
            assert not daemon.publisher.connected
            speaking.set()
            await until(lambda: daemon.publisher.connected or running.done())
            assert HealthReason.TLS_FAILED not in daemon.health.reasons()
            behind_s = daemon.status()["clock"]["utc_unix_ms"] / 1000 - true_now().timestamp()
            assert abs(behind_s) < 5
        finally:
            speaking.set()
            daemon.stop()
            await running
            speaking.clear()
            server.close()
            await server.wait_closed()

    speaking = asyncio.Event()
    try:
        with broker_with(tmp_path, issued(ca, -1, 60)) as broker:
            asyncio.run(work(broker.port))
    finally:
        shutil.rmtree(folder)
