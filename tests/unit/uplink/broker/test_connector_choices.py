"""What is connected to next, and what is told of it: without a network, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from agent import config
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.stamp import Utc, UtcSource
from agent.uplink.broker.broker_choice import STABLE_S
from agent.uplink.broker.connector import CERTIFICATES_EVERY_S, MOST_REDIRECTS, Connector
from agent.uplink.link.credentials import expires_unix_s
from agent.uplink.link.link import Closed, Opened
from agent.uplink.link.refusal import NO_MATCHING_SUBSCRIBERS, NOT_AUTHORISED, QUOTA_EXCEEDED
from hil.private_ca import OpensslUnavailableError, PrivateCa
from hil.sim.virtual_loop import VirtualLoop

PLAIN = Opened(5)
LOST = Closed("broker_unreachable", "lost")
EVENTS, TRAIL = "journal/events", "journal/trail"
NOW_UNIX_S = 1_790_000_000


class Scene:
    """A connector, the brokers that it could reach, and the time."""

    def __init__(self, count: int = 2, *, tls: config.Tls | None = None) -> None:
        brokers = tuple(
            config.Broker(
                host=f"b{n}",
                port=1883,
                tls=tls,
                allow_plaintext=tls is None,
                redirect_hosts=("x", "x0", "x1"),
            )
            for n in range(count)
        )
        self.health = HealthBoard()
        self.reachable = True
        self.utc: Utc | None = Utc(NOW_UNIX_S * 1000, UtcSource.GNSS, 1)
        self.connector = Connector(
            config.Uplink(brokers=brokers, reconnect_min_s=1, reconnect_max_s=60),
            self.health,
            random.Random(3),
            utc_now=lambda: self.utc,
            probe=self.probe,
        )

    async def probe(self, host: str, port: int, timeout_s: float) -> bool:
        del host, port, timeout_s
        return self.reachable

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def host(self) -> str:
        return self.connector.broker.host

    async def due(self) -> None:
        """Wait until the next attempt is due."""
        while (wait_s := self.connector.due_in_s(self.now)) > 0:
            await asyncio.sleep(min(1.0, wait_s))

    async def opened(self, opened: Opened = PLAIN) -> None:
        await self.due()
        self.connector.opened(opened, self.now)

    async def stand(self, seconds: float, *, due: bool, code: int | None = None, topic: str = EVENTS) -> bool:
        """Keep the connection for so long; True when the connector wants to leave before."""
        for _ in range(round(seconds)):
            await asyncio.sleep(1.0)
            if code is not None:
                self.connector.stream_answered(topic, code, self.now)
            if self.connector.tend(self.now, due=due):
                return True
        return False


def virtually(work: Callable[[], Coroutine[None, None, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work())


def test_broker_that_lets_us_in_and_hangs_up_is_left() -> None:
    async def work() -> None:
        scene = Scene()
        while scene.host == "b0":
            assert scene.now < 200.0
            await scene.opened()
            await scene.stand(2, due=False)
            scene.connector.closed(LOST, scene.now)
        assert scene.now >= 60.0

    virtually(work)


def test_broker_that_serves_between_hang_ups_is_kept() -> None:
    async def work() -> None:
        scene = Scene()
        while scene.now < 1000.0:
            await scene.opened()
            await scene.stand(3, due=True, code=0)
            scene.connector.closed(LOST, scene.now)
            assert scene.host == "b0"

    virtually(work)


def test_broker_that_acknowledges_nothing_is_left_after_the_first_stall_and_named() -> None:
    async def work() -> None:
        scene = Scene()
        await scene.opened()
        assert not await scene.stand(61, due=True)
        scene.connector.stalled(60.0, scene.now)
        scene.connector.closed(Closed("", "closed"), scene.now)
        assert scene.host == "b1"
        await scene.opened()
        assert HealthReason.BROKER_UNREACHABLE in scene.health.reasons()  # until something is acknowledged
        scene.connector.stream_answered(EVENTS, 0, scene.now)
        assert scene.health.reasons() == (HealthReason.BROKER_NOT_PREFERRED,)

    virtually(work)


@pytest.mark.parametrize("code", [QUOTA_EXCEEDED, NOT_AUTHORISED])
def test_broker_that_refuses_the_journal_is_left_while_it_stands(code: int) -> None:
    async def work() -> None:
        scene = Scene()
        await scene.opened()
        assert not await scene.stand(55, due=True, code=code)
        assert scene.health.reasons() == (HealthReason.BROKER_REFUSED,)
        assert await scene.stand(10, due=True, code=code)
        scene.connector.leave(scene.now)
        scene.connector.closed(Closed("", "closed"), scene.now)
        assert scene.host == "b1"
        assert scene.health.reasons() == ()
        assert scene.connector.due_in_s(scene.now) <= 1.0

    virtually(work)


def test_one_refused_topic_is_enough_but_not_for_a_broker_that_is_away() -> None:
    async def work() -> None:
        scene = Scene()
        scene.reachable = False
        await scene.opened()
        scene.connector.stream_answered(TRAIL, NOT_AUTHORISED, scene.now)
        assert not await scene.stand(600, due=True, code=0, topic=EVENTS)
        assert TRAIL in scene.health.details()[HealthReason.BROKER_REFUSED]
        scene.reachable = True
        assert await scene.stand(60, due=True, code=0, topic=EVENTS)

    virtually(work)


def test_topic_that_is_taken_again_ends_the_search() -> None:
    async def work() -> None:
        scene = Scene()
        await scene.opened()
        for _ in range(20):
            assert not await scene.stand(50, due=True, code=QUOTA_EXCEEDED)
            assert not await scene.stand(1, due=True, code=0)
        assert scene.health.reasons() == ()

    virtually(work)


def test_connection_that_ends_before_it_could_be_left_changes_nothing() -> None:
    async def work() -> None:
        scene = Scene()
        await scene.opened()
        assert await scene.stand(100, due=True, code=QUOTA_EXCEEDED)
        scene.connector.closed(LOST, scene.now)
        host, due_in_s = scene.host, scene.connector.due_in_s(scene.now)
        scene.connector.leave(scene.now)
        assert (scene.host, scene.connector.due_in_s(scene.now)) == (host, due_in_s)
        scene.connector.closed(LOST, scene.now)
        assert scene.connector.due_in_s(scene.now) > 0.0  # the back-off, not a plan from before

    virtually(work)


def test_quiet_connection_that_stands_has_served() -> None:
    async def work() -> None:
        scene = Scene()
        while scene.now < 1000.0:
            await scene.opened()
            assert not await scene.stand(STABLE_S + 1, due=False)
            scene.connector.closed(LOST, scene.now)
            assert scene.host == "b0"

    virtually(work)


def test_redirects_between_two_servers_are_followed_at_the_pace_of_the_back_off() -> None:
    async def work() -> None:
        scene = Scene(count=1)
        hosts, times = [], []
        while scene.now < 600.0:
            await scene.opened()
            hosts.append(scene.host)
            times.append(scene.now)
            await asyncio.sleep(0.1)
            scene.connector.closed(
                Closed("broker_unreachable", "moved", f"x{len(hosts) % 2}:1883"), scene.now
            )
        assert 10 < len(hosts) < 60
        assert times[1] - times[0] < 0.2  # the first is followed at once
        circle = [
            list(group) for here, group in itertools.groupby(hosts, lambda host: host == "b0") if not here
        ]
        assert {len(servers) for servers in circle[:-1]} == {MOST_REDIRECTS}

    virtually(work)


def test_redirect_is_followed_at_once_again_after_a_stable_connection() -> None:
    async def work() -> None:
        scene = Scene(count=1)
        moved = Closed("broker_unreachable", "moved", "x:1883")
        for _ in range(5):
            await scene.opened()
            await asyncio.sleep(STABLE_S + 1.0)
            scene.connector.closed(moved, scene.now)
            assert scene.host == "x"
            assert scene.connector.due_in_s(scene.now) == 0.0

    virtually(work)


def test_broker_that_moved_to_a_server_that_is_away_is_believed_again_later() -> None:
    async def work() -> None:
        scene = Scene(count=1)
        moved = Closed("broker_unreachable", "moved", "x:1883")
        tried = []
        while scene.now < 3600.0:
            await scene.due()
            tried.append(scene.host)
            scene.connector.closed(moved if scene.host == "b0" else LOST, scene.now)
        assert tried[-10:].count("x") == 5

    virtually(work)


def test_broker_that_only_sends_us_elsewhere_in_vain_is_left() -> None:
    async def work() -> None:
        scene = Scene()
        moved = Closed("broker_unreachable", "moved", "x:1883")
        while scene.host != "b1":
            assert scene.now < 200.0
            await scene.due()
            scene.connector.closed(moved if scene.host == "b0" else LOST, scene.now)

    virtually(work)


def test_nobody_who_listens_is_a_named_reason_until_someone_does() -> None:
    async def work() -> None:
        scene = Scene()
        await scene.opened()
        scene.connector.stream_answered(EVENTS, NO_MATCHING_SUBSCRIBERS, scene.now)
        scene.connector.stream_answered(TRAIL, 0, scene.now)
        assert scene.health.reasons() == (HealthReason.NO_SUBSCRIBER,)
        assert not await scene.stand(300, due=True, code=NO_MATCHING_SUBSCRIBERS)  # others hear no better
        scene.connector.stream_answered(EVENTS, 0, scene.now)
        assert scene.health.reasons() == ()
        scene.connector.stream_answered(EVENTS, NO_MATCHING_SUBSCRIBERS, scene.now)
        scene.connector.closed(LOST, scene.now)
        assert scene.health.reasons() == (HealthReason.BROKER_UNREACHABLE,)

    virtually(work)


def test_broker_without_retained_messages_is_a_named_reason() -> None:
    async def work() -> None:
        scene = Scene(count=1)
        await scene.opened(Opened(5, retain_available=False))
        scene.connector.stream_answered(EVENTS, 0, scene.now)
        assert "retained" in scene.health.details()[HealthReason.BROKER_REFUSED]
        scene.connector.closed(LOST, scene.now)
        await scene.opened()
        assert scene.health.reasons() == ()

    virtually(work)


def test_certificates_are_looked_at_without_a_connection_and_read_only_when_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        ca = PrivateCa(tmp_path / "ca")
        soon, later = ca.issue("soon", days=5), ca.issue("later", days=90)
    except OpensslUnavailableError as error:
        pytest.skip(str(error))
    reads: list[Path] = []

    def counted(file: Path, *, latest: bool = False) -> int:
        reads.append(file)
        return expires_unix_s(file, latest=latest)

    monkeypatch.setattr("agent.uplink.link.credentials.expires_unix_s", counted)
    ours = tmp_path / "ours.pem"
    ours.write_text(soon.certificate_file.read_text())
    tls = config.Tls(certificate_file=ours, key_file=soon.key_file)

    async def work() -> None:
        scene = Scene(count=1, tls=tls)
        end_s = expires_unix_s(ours)
        scene.utc = None

        async def without_a_broker(seconds: float) -> None:
            until = scene.now + seconds
            while scene.now < until:
                if scene.connector.due_in_s(scene.now) == 0.0:
                    scene.connector.closed(LOST, scene.now)
                await asyncio.sleep(1.0)

        await without_a_broker(600.0)
        assert reads == []
        scene.utc = Utc((end_s - 30 * 86_400) * 1000, UtcSource.NTP, 1)
        await without_a_broker(600.0)
        assert HealthReason.CERTIFICATE_EXPIRING not in scene.health.reasons()
        scene.utc = Utc((end_s - 5 * 86_400) * 1000, UtcSource.NTP, 1)
        await without_a_broker(CERTIFICATES_EVERY_S + 1)
        assert HealthReason.CERTIFICATE_EXPIRING in scene.health.reasons()
        assert reads == [ours]
        ours.write_text(later.certificate_file.read_text())
        await without_a_broker(2.0)
        assert HealthReason.CERTIFICATE_EXPIRING not in scene.health.reasons()
        assert reads == [ours, ours]

    virtually(work)


def test_certificate_that_a_clock_nobody_trusts_refused_is_tried_again_once_the_time_is_known() -> None:
    async def work() -> None:
        scene = Scene(count=1)
        scene.utc = None
        refused = Closed("tls_failed", "not yet valid", said_no=True)
        for _ in range(100):
            scene.connector.tried(scene.now)
            scene.connector.closed(refused, scene.now)
            if scene.connector.due_in_s(scene.now) >= 5:
                break
        scene.utc = Utc(NOW_UNIX_S * 1000, UtcSource.LAST_KNOWN, None)
        assert scene.connector.due_in_s(scene.now) >= 5
        scene.utc = Utc(NOW_UNIX_S * 1000, UtcSource.GNSS, 1)
        assert scene.connector.due_in_s(scene.now) == 0.0
        scene.connector.tried(scene.now)
        waits = []
        for _ in range(12):
            scene.connector.closed(refused, scene.now)
            waits.append(scene.connector.due_in_s(scene.now))
            scene.connector.tried(scene.now)
        assert max(waits) > 5  # refused by the true time, it is tried no faster than any other broker

    virtually(work)


def test_end_of_the_brokers_certificate_is_not_forgotten_with_the_connection() -> None:
    async def work() -> None:
        scene = Scene(count=1)
        ends = Opened(5, server_certificate_expires_unix_s=NOW_UNIX_S + 86_400)
        await scene.opened(ends)
        scene.connector.tend(scene.now, due=False)
        assert scene.health.reasons() == (HealthReason.CERTIFICATE_EXPIRING,)
        scene.connector.closed(LOST, scene.now)
        for _ in range(200):
            scene.connector.due_in_s(scene.now)
            await asyncio.sleep(1.0)
        assert HealthReason.CERTIFICATE_EXPIRING in scene.health.reasons()

    virtually(work)
