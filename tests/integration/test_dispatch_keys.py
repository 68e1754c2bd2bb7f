"""Keys and rights: every denied case is tried with a real broker under the shipped configuration."""

from __future__ import annotations

import asyncio
import io
import re
import stat
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from agent.cli.install_keys import install_keys
from agent.cli.watch import Watcher, broker_of
from agent.cli.watch_display import JsonDisplay
from agent.config import Broker, Tls
from agent.dispatch.pki import LEAF_DAYS, RESERVED, Authority, PkiError
from agent.dispatch.pki_command import main as mdt_pki
from agent.dispatch.unit_voice import UnitVoice
from agent.uplink.link.link import Acknowledged, Closed, LinkEvent, Message, Opened, Opening, Received
from agent.uplink.link.paho_link import PahoLink
from agent.wire.topics import Topics, subscriptions
from firmware_shims.system_clock import SystemClock
from hil.broker_process import BrokerOptions, Mosquitto, find_mosquitto

pytestmark = pytest.mark.timeout(120)
needs_broker = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
SHIPPED = Path(__file__).resolve().parents[2] / "config" / "broker"
ROOT = "ems/v1/boston-ems"
NOT_AUTHORISED = 0x87


def now() -> datetime:
    return datetime.fromtimestamp(SystemClock().system_utc().unix_ms // 1000, UTC)


class Shipped(Mosquitto):
    """mosquitto as it is shipped, with keys made by mdt-pki; only paths and the port differ."""

    def __init__(self, directory: Path, pki: Path) -> None:
        super().__init__(directory, BrokerOptions())
        self._places = {
            "/etc/mosquitto/certs/broker.crt": pki / "broker" / "broker.crt",
            "/etc/mosquitto/certs/broker.key": pki / "broker" / "broker.key",
            "/etc/mosquitto/certs/vehicles-ca.crt": pki / "ca.crt",
            "/etc/mosquitto/certs/revoked.crl": pki / "revoked.crl",
            "/etc/mosquitto/mdt.acl": SHIPPED / "mdt.acl",
        }

    def _lines(self) -> list[str]:
        text = (SHIPPED / "mosquitto.conf").read_text(encoding="utf-8")
        for shipped, here in self._places.items():
            assert shipped in text, f"the shipped configuration says nothing of {shipped}"
            text = text.replace(shipped, str(here))
        text = re.sub(r"(?m)^persistence_location .*$", "", text)
        text = text.replace("listener 8883\n", f"listener {self.port} {self.host}\n")
        return [*text.splitlines(), "user root", f"persistence_location {self._directory}/"]


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    folder = tmp_path / "pki"
    for words in (
        "init",
        "broker 127.0.0.1 localhost",
        "unit A1",
        "unit A2",
        "dispatch",
        "client watch",
        "client fleet",
        "client safety",
        "client readers",
    ):
        assert mdt_pki(["--folder", str(folder), *words.split()]) == 0
    return folder


@pytest.fixture
def broker(tmp_path: Path, pki: Path) -> Iterator[Shipped]:
    with Shipped(tmp_path / "broker", pki) as broker:
        yield broker


class Somebody:
    """A connection under a certificate, or without one."""

    def __init__(self, link: PahoLink, events: asyncio.Queue[LinkEvent], first: LinkEvent) -> None:
        self._link = link
        self.events = events
        self.first = first

    async def publish(self, topic: str) -> int:
        token = self._link.publish(Message(f"{ROOT}/{topic}", b"x"))
        while True:
            async with asyncio.timeout(30):
                event = await self.events.get()
            if isinstance(event, Acknowledged):
                assert event.token == token
                return event.reason_code
            if isinstance(event, Closed):
                return -1

    async def publish_state(self, unit: str) -> None:
        topic, payload = UnitVoice(Topics("boston-ems", unit)).link(1, online=True)
        self._link.publish(Message(topic, payload))


@asynccontextmanager
async def somebody(broker: Shipped, pki: Path, name: str | None, *topics: str) -> AsyncIterator[Somebody]:
    tls = Tls(ca_file=pki / "ca.crt")
    if name is not None:
        tls = Tls(
            ca_file=pki / "ca.crt",
            certificate_file=pki / name / f"{name}.crt",
            key_file=pki / name / f"{name}.key",
        )
    link, events = PahoLink(), asyncio.Queue[LinkEvent]()
    way = Broker(host=broker.host, port=broker.port, tls=tls)
    filters = tuple(f"{ROOT}/{topic}" for topic in topics)
    link.open(Opening(way, name or "nobody", 20, 20, subscriptions=filters), events.put_nowait)
    async with asyncio.timeout(30):
        first = await events.get()
    try:
        yield Somebody(link, events, first)
    finally:
        await link.close()


@needs_broker
def test_each_role_may_write_what_is_its_own_and_nothing_else(broker: Shipped, pki: Path) -> None:
    allowed = {
        "A1": ["A1/state/link", "A1/journal/events", "A1/reply/ping"],
        "dispatch": ["A1/command/replay", "A1/command/assign", "A2/receipt"],
        "watch": ["A1/command/replay"],
        "fleet": ["A1/command/signals", "A1/command/ping", "A1/command/config"],
        "safety": ["A1/command/fetch", "A1/command/keep"],
    }
    as_a_unit = ("journal/events", "journal/trail", "state/link", "state/location", "reply/ping")
    of_a1 = [f"A1/{topic}" for topic in as_a_unit]
    to_a1 = ["A1/command/assign", "A1/command/answer", "A1/command/config", "A1/receipt"]
    denied = {
        "A1": [f"A2/{topic}" for topic in as_a_unit]
        + ["A1/command/assign", "A2/command/assign", "A1/command/replay", "A1/receipt", "A2/receipt"],
        "dispatch": of_a1,
        "watch": of_a1 + to_a1,
        "fleet": [*of_a1, "A1/command/assign", "A1/command/answer", "A1/command/fetch", "A1/receipt"],
        "safety": [*of_a1, *to_a1, "A1/command/replay"],
        "readers": [*of_a1, *to_a1, "A1/command/replay"],
    }
    for name in RESERVED & denied.keys():  # the rule for vehicles would make each of them a unit of its name
        denied[name] = denied[name] + [f"{name}/{topic}" for topic in as_a_unit]

    async def work() -> None:
        for name, topics in allowed.items():
            async with somebody(broker, pki, name) as one:
                for topic in topics:
                    assert await one.publish(topic) < 0x80, f"{name} must be able to write {topic}"
        for name, topics in denied.items():
            for topic in topics:  # a connection for each: a refused PUBLISH ends it
                async with somebody(broker, pki, name) as one:
                    assert isinstance(one.first, Opened)
                    assert await one.publish(topic) in (NOT_AUTHORISED, -1), f"{name} wrote {topic}"

    asyncio.run(work())


@needs_broker
def test_nobody_reads_what_is_meant_for_another(broker: Shipped, pki: Path) -> None:
    async def heard(name: str, *filters: str) -> set[str]:
        """Which of dispatch's and a unit's messages reach a subscriber."""
        async with (
            somebody(broker, pki, name, *filters) as reader,
            somebody(broker, pki, "dispatch" if name != "dispatch" else "A2") as speaker,
            somebody(broker, pki, "A1" if name != "A1" else "A2") as unit,
        ):
            if name != "dispatch":
                for topic in ("A1/command/assign", "A2/command/assign", "A1/receipt", "A2/receipt"):
                    await speaker.publish(topic)
            own = "A1" if name != "A1" else "A2"
            await unit.publish(f"{own}/journal/events")
            await unit.publish(f"{own}/state/vehicle")
            await asyncio.sleep(0.3)
            got: set[str] = set()
            while not reader.events.empty():
                event = reader.events.get_nowait()
                if isinstance(event, Received):
                    got.add(event.topic.removeprefix(f"{ROOT}/"))
            return got

    async def work() -> None:
        everything = ("+/command/+", "+/receipt", "+/journal/+", "+/state/+")
        assert await heard("A1", *everything) == {"A1/command/assign", "A1/receipt"}
        assert await heard("dispatch", *everything) == {"A1/journal/events", "A1/state/vehicle"}
        assert await heard("watch", *everything) == {"A1/journal/events", "A1/state/vehicle"}
        assert await heard("fleet", *everything) == {"A1/state/vehicle"}
        assert await heard("safety", *everything) == {"A1/journal/events"}
        assert await heard("readers", *everything) == {"A1/state/vehicle"}

    asyncio.run(work())


@needs_broker
def test_without_a_good_certificate_nobody_comes_in(broker: Shipped, pki: Path, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "other", now)
    stranger.init("somebody else")
    stranger.unit("A1")
    Authority(pki, now).client("late", days=-2)
    (tmp_path / "mixed" / "A1").mkdir(parents=True)
    for source, name in ((pki / "ca.crt", "ca.crt"),):
        (tmp_path / "mixed" / name).write_bytes(source.read_bytes())
    for end in ("crt", "key"):
        (tmp_path / "mixed" / "A1" / f"A1.{end}").write_bytes(
            (tmp_path / "other" / "A1" / f"A1.{end}").read_bytes()
        )

    Authority(pki, now).unit("A9")
    Authority(pki, now).revoke("A9")
    broker.restart()

    async def work() -> None:
        for folder, name, word in (
            (pki, None, "we have none"),
            (pki, "late", "it has expired"),
            (pki, "A9", "it is revoked"),
            (tmp_path / "mixed", "A1", "does not know who signed it"),
        ):
            async with somebody(broker, folder, name) as one:
                assert isinstance(one.first, Closed)
                assert one.first.reason in ("tls_failed", "broker_refused", "broker_unreachable")
                # What a broker says as it closes may be lost with the connection: then we say what may be.
                assert re.search(f"{word}|may have refused our certificate", one.first.detail or "")

    asyncio.run(work())


@needs_broker
def test_watching_takes_a_certificate_and_says_why_it_is_not_let_in(broker: Shipped, pki: Path) -> None:
    Authority(pki, now).client("late", days=-2)
    url = f"mqtts://127.0.0.1:{broker.port}"

    def watcher(name: str, out: io.StringIO, err: io.StringIO) -> Watcher:
        way = broker_of(
            url,
            ca_file=pki / "ca.crt",
            certificate_file=pki / name / f"{name}.crt",
            key_file=pki / name / f"{name}.key",
        )
        return Watcher(PahoLink, way, subscriptions("boston-ems"), JsonDisplay(out, err), err)

    async def work() -> None:
        out, err = io.StringIO(), io.StringIO()
        late = asyncio.ensure_future(watcher("late", out, err).run())
        async with asyncio.timeout(30):
            while "our certificate" not in err.getvalue():
                await asyncio.sleep(0.02)
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        async with somebody(broker, pki, "A1") as unit:
            watching = asyncio.ensure_future(watcher("watch", out, err).run())
            async with asyncio.timeout(30):
                while "boston-ems" not in out.getvalue():
                    await unit.publish_state("A1")
                    await asyncio.sleep(0.05)
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    asyncio.run(work())


@needs_broker
def test_a_lost_unit_is_out_by_one_command_and_the_others_stay(broker: Shipped, pki: Path) -> None:
    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.02)

    async def work() -> None:
        async with somebody(broker, pki, "A1") as lost:
            assert isinstance(lost.first, Opened)
            assert await asyncio.to_thread(mdt_pki, ["--folder", str(pki), "revoke", "A1"]) == 0
            await asyncio.to_thread(broker.restart)
            async with asyncio.timeout(30):
                while not isinstance(await lost.events.get(), Closed):
                    pass
        async with somebody(broker, pki, "A1") as lost:
            assert isinstance(lost.first, Closed)
        async with somebody(broker, pki, "A2") as other:
            assert isinstance(other.first, Opened)
        # The vehicle that is found again gets a new key; the stolen one stays out.
        stolen = {end: (pki / "A1" / f"A1.{end}").read_bytes() for end in ("crt", "key")}
        assert await asyncio.to_thread(mdt_pki, ["--folder", str(pki), "unit", "A1"]) == 0
        async with somebody(broker, pki, "A1") as found:
            assert isinstance(found.first, Opened)
        for end, content in stolen.items():
            (pki / "A1" / f"A1.{end}").write_bytes(content)
        async with somebody(broker, pki, "A1") as lost:
            assert isinstance(lost.first, Closed)

    asyncio.run(work())


@needs_broker
def test_a_renewed_certificate_works_and_the_old_one_ends_when_told(broker: Shipped, pki: Path) -> None:
    old = {end: (pki / "A1" / f"A1.{end}").read_bytes() for end in ("crt", "key")}
    assert mdt_pki(["--folder", str(pki), "renew", "A1", "--revoke-old"]) == 0
    broker.restart()

    async def work() -> None:
        async with somebody(broker, pki, "A1") as fresh:
            assert isinstance(fresh.first, Opened)
        for end, content in old.items():
            (pki / "A1" / f"A1.{end}").write_bytes(content)
        async with somebody(broker, pki, "A1") as stale:
            assert isinstance(stale.first, Closed)

    asyncio.run(work())


def test_every_name_of_the_access_rules_is_reserved_and_denied_the_unit_of_its_name() -> None:
    lines = (SHIPPED / "mdt.acl").read_text(encoding="utf-8").splitlines()
    named = {line.split()[1]: lines[at + 1] for at, line in enumerate(lines) if line.startswith("user ")}
    assert named == {name: f"topic deny {ROOT}/{name}/#" for name in RESERVED - {"broker"}}


def test_who_makes_a_key_for_a_name_without_rules_is_told(
    pki: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mdt_pki(["--folder", str(pki), "client", "wallboard"]) == 0
    assert "topic deny" in capsys.readouterr().out


def test_keys_are_for_their_owner_only_and_names_are_what_a_topic_may_hold(pki: Path) -> None:
    for file in [*pki.glob("**/*.key"), *pki.glob("**/*.tar")]:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    authority = Authority(pki, now)
    for name in ("A.1", "A/1", "", "..", "dispatch", "broker", "A1"):
        with pytest.raises(PkiError):
            authority.unit(name)
    with pytest.raises(PkiError, match="never overwritten"):
        authority.init("again")
    authority.revoke("broker")
    with pytest.raises(PkiError, match="no host name"):
        authority.broker(["not a host"])


def test_certificates_end_when_they_say_and_carry_what_they_are_for(pki: Path) -> None:
    made = x509.load_pem_x509_certificate((pki / "A1" / "A1.crt").read_bytes())
    assert made.not_valid_after_utc - now() == pytest.approx(
        timedelta(days=LEAF_DAYS), abs=timedelta(minutes=5)
    )
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [one.dotted_string for one in usage] == ["1.3.6.1.5.5.7.3.2"]
    broker = x509.load_pem_x509_certificate((pki / "broker" / "broker.crt").read_bytes())
    names = broker.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    crl = x509.load_pem_x509_crl((pki / "revoked.crl").read_bytes())
    assert crl.next_update_utc is not None
    assert crl.next_update_utc - now() > timedelta(days=19 * 365)


def test_a_bundle_is_unpacked_where_the_agent_reads_it(pki: Path, tmp_path: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    folder = tmp_path / "etc"
    assert install_keys(pki / "A1" / "A1.tar", folder, out, err) == 0, err.getvalue()
    assert (folder / "client.pem").read_bytes() == (pki / "A1" / "A1.crt").read_bytes()
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "client.key/../../x", "more.pem"])
def test_a_bundle_that_holds_anything_else_is_refused_whole(tmp_path: Path, name: str) -> None:
    bundle = tmp_path / "bad.tar"
    with tarfile.open(bundle, "w") as tar:
        for one in ("ca.pem", "client.pem", "client.key", name):
            content = b"-----BEGIN X-----"
            member = tarfile.TarInfo(one)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    err = io.StringIO()
    assert install_keys(bundle, tmp_path / "etc", io.StringIO(), err) == 78
    assert "does not belong" in err.getvalue()
    assert not (tmp_path / "etc").exists()
