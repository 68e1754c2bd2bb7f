"""What a cluster of three nodes and one storer on this computer take: records a second, and a press's way."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from pathlib import Path
from statistics import quantiles

import paho.mqtt.client as paho
import psycopg
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.dispatch.unit_voice import UnitVoice
from agent.wire.topics import Topics
from hil.bench.figure import Figure, Target
from hil.bench.setting import NotHereError, Setting
from hil.cluster.rabbitmq import ClusterUnavailableError, find_root
from hil.cluster.site import AGENCY, Site
from hil.postgres_process import PostgresUnavailableError

UNITS = 6
BATCH = 60
RECORDS = 360_000
PRESSES = 60
START_MS = 1_790_000_000_000
WITHIN_S = 300.0


class _Speaker:
    """One unit that has everything to say at once; counts acknowledgements and receipts."""

    def __init__(self, site: Site, name: str, node: int) -> None:
        self.voice = UnitVoice(Topics(AGENCY, name))
        self.acknowledged = 0
        self.last_s = 0.0
        self.receipt = threading.Event()
        self._sent = 0
        self._changed = threading.Condition()
        broker = site.brokers_of(name, node)[0]
        assert broker.tls is not None
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"mdt-{AGENCY}-{name}", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.tls_set(
            str(broker.tls.ca_file), str(broker.tls.certificate_file), str(broker.tls.key_file)
        )
        self._client.max_inflight_messages_set(200)
        self._client.on_publish = self._published
        self._client.on_message = lambda *_: self.receipt.set()
        self._client.on_connect = lambda client, *_: client.subscribe(self.voice.topics.receipt, qos=1)
        ready = threading.Event()
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.connect("localhost", broker.port, 60)
        self._client.loop_start()
        if not ready.wait(WITHIN_S):
            raise NotHereError("the cluster does not let a unit in")

    def say(self, topic: str, payload: bytes) -> None:
        self._sent += 1
        self._client.publish(topic, payload, qos=1)

    def wait(self) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self.acknowledged >= self._sent, WITHIN_S):
                raise NotHereError("the cluster did not acknowledge everything")

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _published(self, *_: object) -> None:
        with self._changed:
            self.acknowledged += 1
            self.last_s = time.perf_counter()
            self._changed.notify_all()


def measure(setting: Setting) -> list[Figure]:
    """A backlog of all units at once, from the first publish on; then single presses."""
    folder = Path(tempfile.mkdtemp(prefix="mdt-cluster-", dir="/tmp"))
    names = [f"A{number}" for number in range(1, UNITS + 1)]
    try:
        with Site(find_root(), folder, names, storers=1) as site:
            speakers = [_Speaker(site, name, number % 3) for number, name in enumerate(names)]
            try:
                return _figures(site, speakers, setting)
            finally:
                for speaker in speakers:
                    speaker.close()
    except (ClusterUnavailableError, PostgresUnavailableError) as error:
        return [Figure("cluster.stored", None, "records/s", "", None, note=str(error))]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _figures(site: Site, speakers: list[_Speaker], setting: Setting) -> list[Figure]:
    each = setting.count(RECORDS // UNITS, least=BATCH * 2) // BATCH
    messages = [
        [speaker.voice.positions(1 + at * BATCH, BATCH, START_MS + at * 60_000) for at in range(each)]
        for speaker in speakers
    ]
    total = each * BATCH * len(speakers)
    begun_s = time.perf_counter()
    for at in range(each):
        for speaker, its in zip(speakers, messages, strict=True):
            speaker.say(*its[at])
    for speaker in speakers:
        speaker.wait()
    taken_s = max(speaker.last_s for speaker in speakers) - begun_s
    stored_s = _until_stored(site, total) - begun_s
    took_ms = [_press(speakers[number % UNITS], number, each * BATCH) for number in range(PRESSES)]
    parts = quantiles(took_ms, n=100)
    return [
        Figure(
            "cluster.acknowledged", total / taken_s, "records/s", "", None, note="batches of 60, three nodes"
        ),
        Figure("cluster.stored", total / stored_s, "records/s", "", None, Target(20_000)),
        Figure("cluster.press.p50", parts[49], "ms", "", None, Target(50, at_most=True)),
        Figure("cluster.press.p99", parts[98], "ms", "", None, Target(250, at_most=True)),
    ]


def _until_stored(site: Site, total: int) -> float:
    until_s = time.perf_counter() + WITHIN_S
    with psycopg.connect(site.database, autocommit=True) as connection:
        while time.perf_counter() < until_s:
            found = connection.execute("SELECT coalesce(sum(highest), 0) FROM streams").fetchone()
            if found is not None and found[0] >= total:
                return time.perf_counter()
            threading.Event().wait(0.05)
    raise NotHereError("the storer did not store everything")


def _press(speaker: _Speaker, number: int, after: int) -> float:
    """Milliseconds from publishing a press to the receipt that is sent after it was committed."""
    threading.Event().wait(0.05)
    speaker.receipt.clear()
    begun_s = time.perf_counter()
    speaker.say(*speaker.voice.status(1 + number // UNITS, "on_scene", START_MS + after))
    if not speaker.receipt.wait(WITHIN_S):
        raise NotHereError("no receipt came")
    return (time.perf_counter() - begun_s) * 1000
