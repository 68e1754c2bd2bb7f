"""The cluster: rights on real nodes, and nothing lost when nodes, storers and the database are killed."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from agent.runtime.worker import deliver
from hil.cluster import harms
from hil.cluster.campaign import Outcome, run
from hil.cluster.rabbitmq import SHIPPED, ClusterUnavailableError, find_root, with_settings
from hil.cluster.site import AGENCY, Site
from hil.postgres_process import PostgresUnavailableError

UNITS = ("A1", "A2", "P1")
WITHIN_S = 30.0


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="mdt-cluster-", dir="/tmp"))
    try:
        try:
            made = Site(find_root(), folder, UNITS)
        except (ClusterUnavailableError, PostgresUnavailableError) as error:
            pytest.skip(str(error))
        with made as site:
            yield site
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def assert_good(outcome: Outcome) -> None:
    assert outcome.lost == []
    assert outcome.doubled == []
    assert outcome.strange == []
    assert outcome.settled_s is not None, f"{outcome.acknowledged} of {outcome.pressed} were acknowledged"
    assert outcome.acknowledged == outcome.pressed > len(UNITS)


@pytest.mark.timeout(420)
def test_what_was_acknowledged_is_stored_once_whoever_is_killed(site: Site) -> None:
    harm = [
        ("the stream's leader", partial(harms.kill_leader, site)),
        ("the storer", partial(harms.kill_storer, site)),
        ("PostgreSQL", partial(harms.kill_postgres, site)),
        ("two nodes", partial(harms.kill_two, site)),
    ]
    assert_good(asyncio.run(run(site, harm, between_s=2.0)))


class Caller:
    """A plain MQTT 5 client with somebody's certificate."""

    def __init__(self, site: Site, name: str, client_id: str) -> None:
        keys = site.cluster.keys
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5
        )
        if name:
            self._client.tls_set(
                str(keys / "ca.crt"), str(keys / name / f"{name}.crt"), str(keys / name / f"{name}.key")
            )
        else:
            self._client.tls_set(str(keys / "ca.crt"))
        self._port = site.cluster.nodes[0].mqtt_port

    async def outcome_of(self, *, publish: str | None = None, subscribe: str | None = None) -> str:
        """ "taken", "refused" or "closed": what the broker makes of it."""
        loop = asyncio.get_running_loop()
        said: asyncio.Future[str] = loop.create_future()

        def say(word: str) -> None:
            loop.call_soon_threadsafe(deliver, said, word, None)

        def connected(client: paho.Client, _u: object, _f: object, code: ReasonCode, _p: object) -> None:
            if code.is_failure:
                say("closed")
            elif publish is not None:
                client.publish(publish, b"x", qos=1)
            else:
                client.subscribe(subscribe or "", qos=1)

        self._client.on_connect = connected
        self._client.on_publish = lambda _c, _u, _m, code, _p: say("refused" if code.is_failure else "taken")
        self._client.on_subscribe = lambda _c, _u, _m, codes, _p: say(
            "refused" if codes[0].is_failure else "taken"
        )
        self._client.on_disconnect = lambda *_: say("closed")
        try:
            await asyncio.to_thread(self._client.connect, "localhost", self._port, 20)
        except OSError:
            return "closed"
        self._client.loop_start()
        try:
            return await asyncio.wait_for(said, WITHIN_S)
        finally:
            self._client.disconnect()
            await asyncio.to_thread(self._client.loop_stop)


@pytest.mark.timeout(300)
def test_a_unit_reaches_its_own_topics_and_no_others(site: Site) -> None:
    mine, other = f"ems/v1/{AGENCY}/A1", f"ems/v1/{AGENCY}/A2"

    async def tries() -> dict[str, str]:
        def unit(client_id: str = f"mdt-{AGENCY}-A1") -> Caller:
            return Caller(site, "A1", client_id)

        return {
            "own state": await unit().outcome_of(publish=f"{mine}/state/location"),
            "own commands": await unit().outcome_of(subscribe=f"{mine}/command/ping"),
            "another's state": await unit().outcome_of(publish=f"{other}/state/location"),
            "another's commands": await unit().outcome_of(subscribe=f"{other}/command/ping"),
            "a command": await unit().outcome_of(publish=f"{other}/command/ping"),
            "a receipt": await unit().outcome_of(publish=f"{other}/receipt"),
            "everything": await unit().outcome_of(subscribe="#"),
            "another's queue": await unit(f"mdt-{AGENCY}-A2").outcome_of(subscribe=f"{mine}/command/ping"),
            "nobody": await Caller(site, "", "x").outcome_of(publish=f"{mine}/state/location"),
        }

    found = asyncio.run(tries())
    assert found.pop("own state") == "taken"
    assert found.pop("own commands") == "taken"
    assert {name: how for name, how in found.items() if how == "taken"} == {}


@pytest.mark.timeout(300)
def test_a_unit_that_was_put_out_stays_out(site: Site) -> None:
    site.cluster.add_units(AGENCY, ["A9"])
    topic = f"ems/v1/{AGENCY}/A9/state/location"
    caller = partial(Caller, site, "A9", f"mdt-{AGENCY}-A9")
    assert asyncio.run(caller().outcome_of(publish=topic)) == "taken"
    site.cluster.rights("gone", "A9")
    assert asyncio.run(caller().outcome_of(publish=topic)) == "closed"


def test_names_that_would_reach_beyond_a_unit_get_no_rights() -> None:
    for unit in ("A.7", "A7|.*", "dispatch", "fleet", "", "a b"):
        done = subprocess.run(
            ["bash", str(SHIPPED / "rights"), "unit", "boston", unit],
            env={"PATH": "/usr/bin:/bin", "RABBITMQCTL": "/bin/false"},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 2, unit


def test_a_setting_that_the_shipped_file_lacks_is_not_put_in_silently() -> None:
    with pytest.raises(KeyError):
        with_settings("listeners.tcp = none\n", {"listeners.ssl.default": 1})
