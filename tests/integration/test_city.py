"""A small city end to end, what its judge would notice, and its light units against the whole app."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from agent.app.daemon import Daemon
from agent.config import Config
from agent.domain.record import Kind
from agent.outbox.entry import STREAM_OF_KIND
from agent.paths.crew_path import CrewPath
from agent.paths.fix_path import FixPath
from agent.paths.run_aboard import RunAboard
from agent.paths.run_calls import RunCalls
from agent.uplink.link.link import Message
from agent.wire.codec import decode_batch
from agent.wire.topics import Topics
from hil.broker_process import find_mosquitto
from hil.city import sim_unit
from hil.city.crew import Habits
from hil.city.day import Day, Options, run_day
from hil.city.dispatcher import Centre
from hil.city.judge import Account, judge, sweep_rows, told
from hil.city.light_unit import LightUnit
from hil.city.live import run_live
from hil.city.page import write_page
from hil.city.storm import Course, run_storm
from hil.city.worker import Told
from hil.drive.shift import Options as ShiftOptions
from hil.drive.shift import Shift, load_shift
from hil.process.vehicle_config import AGENCY, UNIT
from hil.sim.sim_rig import DEMO_VEHICLE, SimRig
from hil.sim.virtual_loop import VirtualLoop

SMALL = Options(units=6, calls=8, hours=0.9, seed=2, workers=0, habits=Habits(missed=0.15, doubled=0.1))

# ------------------------------------------------------------------ a small city


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    with pytest.MonkeyPatch.context() as patch:
        # So many that some unit starts anew in its short day, and looks back at what it had. Undone before
        # another test begins: processes of their own would not know of it.
        patch.setattr(sim_unit, "POWER_CUTS_A_DAY", 40.0)
        return run_day(SMALL, tmp_path_factory.mktemp("city"))


@pytest.mark.timeout(300)
def test_every_press_of_a_small_city_is_at_dispatch_once_and_in_order(day: Day, tmp_path: Path) -> None:
    verdict = judge(day)
    account = verdict.account
    assert account.clean, account
    assert account.stored == account.expected > 20
    assert sum(day.sums.dark.values()) > 2
    assert len(day.choices) >= 6
    assert all(row.agrees for row in verdict.vital), verdict.vital
    assert sum(row.cases for row in verdict.vital) > 10
    live = day.picture["live"]
    assert live.cases > 1_000
    assert (live.share_within(40) or 0) > 0.99
    page = write_page(day, verdict, tmp_path).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    json.dumps(told(verdict, day))


@pytest.mark.timeout(300)
def test_the_same_seed_gives_the_same_day_in_any_number_of_processes(day: Day, tmp_path: Path) -> None:
    short = replace(SMALL, hours=0.4, calls=3)
    here = run_day(short, tmp_path / "here")
    assert run_day(replace(short, workers=2), tmp_path / "two").digest == here.digest
    assert run_day(replace(short, seed=3), tmp_path / "other").digest != here.digest


@pytest.mark.timeout(300)
def test_a_message_that_the_broker_loses_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take = Centre.take
    lost: list[Told] = []

    def is_press(told: Told) -> bool:
        if not told.topic.endswith("/journal/events"):
            return False
        return any(record.kind == Kind.STATUS for record in decode_batch(told.payload).records)

    async def losing(self: Centre, told: Sequence[Told]) -> None:
        """The first batch with a press was confirmed to its unit, and reaches nobody."""
        if not lost:
            lost.extend([one for one in told if is_press(one)][:1])
        await take(self, [one for one in told if one not in lost])

    monkeypatch.setattr(Centre, "take", losing)
    account = judge(run_day(replace(SMALL, units=2, hours=0.2, calls=1), tmp_path)).account
    assert lost
    assert account.records_lost >= 1
    assert account.lost >= 1
    assert not account.clean


@pytest.mark.timeout(300)
def test_hints_are_tried_with_every_radius_and_dwell_time_over_the_same_drives(tmp_path: Path) -> None:
    habits = Habits(missed=0.5, heeds=0.0)
    swept = run_day(replace(SMALL, units=2, calls=3, hours=0.8, habits=habits, sweep=True), tmp_path)
    rows = {(row.radius_m, row.dwell_s): row for row in sweep_rows(swept)}
    assert len(rows) == 20
    assert rows[150.0, 10.0].forgotten > 2
    assert rows[150.0, 10.0].hits >= 1
    assert sum(row.told for row in rows.values() if row.dwell_s == 10.0) >= sum(
        row.told for row in rows.values() if row.dwell_s == 120.0
    )


HARMS = (
    ("DELETE FROM records WHERE rowid_of_press", "lost"),
    ("twice", "doubled"),
    ("UPDATE records SET body = replace(body, 'on_scene', 'staged') WHERE rowid_of_press", "lost"),
    ("UPDATE records SET at_ms = at_ms + 9000 WHERE rowid_of_press", "wrong_time"),
    ("DELETE FROM records WHERE kind = 4 AND seq = 7", "records_lost"),
)


@pytest.mark.timeout(300)
def test_the_judge_notices_what_is_planted(day: Day, tmp_path: Path) -> None:
    # One after the other in one test: the day is lived once and not once on each core.
    for number, (harm, name) in enumerate(HARMS):
        account = harmed_account(day, tmp_path / str(number), harm)
        assert not account.clean
        assert getattr(account, name) >= 1, harm


def harmed_account(day: Day, folder: Path, harm: str) -> Account:
    shutil.copytree(day.store.parent, folder, ignore=shutil.ignore_patterns("*-owner*"))
    store = folder / day.store.name
    connection = sqlite3.connect(store)
    stream, seq = connection.execute(
        "SELECT stream_id, seq FROM records WHERE kind = 2 AND body LIKE '%\"on_scene\"%' "
        "ORDER BY at_ms LIMIT 1"
    ).fetchone()
    which = f"stream_id = {stream} AND seq = {seq} AND kind = 2"
    if harm == "twice":
        columns = [row[1] for row in connection.execute("PRAGMA table_info(records)")]
        other = ", ".join("seq + 100000" if one == "seq" else one for one in columns)
        harm = f"INSERT INTO records SELECT {other} FROM records WHERE rowid_of_press"
    changed = connection.execute(harm.replace("rowid_of_press", which)).rowcount
    connection.commit()
    connection.close()
    assert changed >= 1
    return judge(replace_store(day, store)).account


def replace_store(day: Day, store: Path) -> Day:
    return Day(
        day.options,
        day.world,
        store,
        pressed=day.pressed,
        happened=day.happened,
        choices=day.choices,
        sums=day.sums,
        picture=day.picture,
        bytes_of=day.bytes_of,
        messages_of=day.messages_of,
    )


# ------------------------------------------------------------------ the light unit and the whole app


OF_THE_WHOLE_DAEMON = (Kind.HEALTH, Kind.READINESS)
"""How the daemon's parts are, all together: a light unit has but some of them."""


@dataclass
class Heard:
    """What the whole app's paths were given, and what came out of it."""

    given: list[tuple[int, str, Any]] = field(default_factory=list)
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    states: list[tuple[int, str, bytes]] = field(default_factory=list)
    began_ns: int = 0
    ended_ns: int = 0
    journal: int = 0
    config: Config | None = None


@contextmanager
def listening(heard: Heard) -> Iterator[None]:
    patch = pytest.MonkeyPatch()

    def watch(owner: type, name: str, kind: str, which: int) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def wrapped(self: Any, *args: Any) -> Any:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            heard.given.append((loop.now_ns, kind, args[which]))
            return real(self, *args)

        patch.setattr(owner, name, wrapped)

    watch(FixPath, "on_fix", "fix", 0)
    watch(FixPath, "on_silence", "silence", 0)
    watch(Daemon, "_on_signals", "signals", 0)
    watch(CrewPath, "_on_edge", "edge", 1)
    watch(RunCalls, "on_assign", "assign", 0)
    watch(RunCalls, "on_cancel", "cancel", 0)
    watch(RunAboard, "on_sign_on", "crew", 0)
    try:
        yield
    finally:
        patch.undo()


async def live_whole(heard: Heard, folder: Path, shift: Shift, until_s: float, places: Path) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    devices = [
        {"kind": "gnss_serial", "device": "sim-gnss"},
        {"kind": "can_socketcan", "channel": "sim", "vehicle": str(DEMO_VEHICLE)},
        {"kind": "button_box", "device": "sim-box"},
    ]
    overrides = {"places": {"file": str(places)}, "device": devices}
    async with SimRig(folder, unix_ms=shift.start_utc_ms, overrides=overrides) as rig:
        see = rig.broker.on_message
        assert see is not None

        def on_message(message: Message) -> None:
            see(message)
            _, area, name = message.topic.rsplit("/", 2)
            if area == "state":
                heard.states.append((loop.now_ns, name, message.payload))

        rig.broker.on_message = on_message
        heard.began_ns = loop.now_ns
        await rig.boot()
        orders = loop.create_task(tell(rig))
        await rig.play(shift.items(), until_ns=round(until_s * 1e9))
        await orders
        assert rig.daemon is not None
        heard.config, heard.journal, heard.ended_ns = (
            rig.configuration(),
            rig.daemon.outbox.journal,
            loop.now_ns,
        )
        await rig.shut_down()
        connection = sqlite3.connect(rig.store_directory / "outbox.db")
        for stream in ("events", "trail"):
            heard.rows += connection.execute(
                "SELECT seq, kind, boot, boottime_ms, utc_ms, utc_source, utc_uncertainty_ms, body "
                f"FROM {stream} ORDER BY seq"
            ).fetchall()
        connection.close()


async def tell(rig: SimRig) -> None:
    topics = Topics(AGENCY, UNIT)
    await asyncio.sleep(12.3)
    rig.dispatch.command(topics, "crew", "c1", crew=["c7", "c8"], driver="c8")
    await asyncio.sleep(8.4)
    rig.dispatch.command(
        topics, "assign", "c2", incident="26-7", priority="1", lat_deg=42.3391, lon_deg=-71.0776
    )
    await asyncio.sleep(200.7)
    rig.dispatch.command(topics, "cancel", "c3", incident="26-7", reason="a trial")


async def live_light(heard: Heard, unix_ms: int) -> LightUnit:
    """The same again, in a light unit: what the paths were given, at the same moments."""
    now_ns = [heard.began_ns]
    assert heard.config is not None
    unit = LightUnit(heard.config, unix_ms=unix_ms, seed="light", now_ns=lambda: now_ns[0])
    unit.store.journal, unit.store.all_rows = heard.journal, []
    unit.cover(covered=True)
    await unit.power_on(hashlib.sha256(b"1/1").hexdigest()[:32])
    ticks = range(heard.began_ns, heard.ended_ns, 1_000_000_000)
    moments: list[tuple[int, int, str, Any]] = [(at_ns, 0, "tick", None) for at_ns in ticks]
    moments += [(at_ns, 1, kind, given) for at_ns, kind, given in heard.given]
    for at_ns, _, kind, given in sorted(moments, key=lambda one: one[:2]):
        now_ns[0] = at_ns
        if kind == "tick":
            unit.tick()
        elif kind in ("fix", "signals", "edge"):
            getattr(unit, kind)(given)
        else:
            unit.given(kind, given)
        unit.settle()
        for _ in range(4):
            await asyncio.sleep(0)
    now_ns[0] = heard.ended_ns
    unit.power_off(orderly=True)
    return unit


@pytest.mark.parametrize(
    ("drive", "until_s"),
    [("boston_demo", 420.0), pytest.param("boston_12h", 7_200.0, marks=pytest.mark.slow)],
)
@pytest.mark.timeout(600)
def test_a_light_unit_makes_the_records_and_states_of_the_whole_app(
    drive: str, until_s: float, tmp_path: Path
) -> None:
    places = tmp_path / "places.geojson"
    point = {"type": "Point", "coordinates": [-71.07404, 42.33416]}
    hospital = {"id": "h", "name": "A hospital", "kind": "hospital"}
    feature = {"type": "Feature", "properties": hospital, "geometry": point}
    places.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}), encoding="utf-8")
    shift, heard = load_shift(drive, 1, ShiftOptions(can_hz_scale=0.2)), Heard()
    loop = VirtualLoop()
    with listening(heard):
        loop.run_until_complete(live_whole(heard, tmp_path / "app", shift, until_s, places))
    loop.close()
    loop = VirtualLoop()
    unit = loop.run_until_complete(live_light(heard, shift.start_utc_ms))
    loop.close()

    def comparable(row: Any) -> tuple[Any, ...]:
        # What the daemon tells of itself has no part in it: the trail's numbers differ, the events' do not.
        stream = STREAM_OF_KIND[row[1]].value
        return (stream, row[0] if stream == "events" else None, *row[1:])

    whole = [comparable(row) for row in heard.rows if row[1] not in OF_THE_WHOLE_DAEMON]
    assert unit.store.all_rows is not None
    light = [
        comparable(row) for stream in ("events", "trail") for one, row in unit.store.all_rows if one == stream
    ]
    assert {row[2] for row in whole} >= {Kind.STATUS, Kind.POSITION, Kind.TELEMETRY, Kind.CALL, Kind.CREW}
    assert light == whole

    sent = [(one.topic.rsplit("/", 1)[1], one.payload) for one in unit.taken() if "/state/" in one.topic]
    for name in ("location", "unit", "vehicle"):
        assert [payload for one, payload in sent if one == name] == [
            payload for _, one, payload in heard.states if one == name
        ], name
    # Of the states of one press, told within a tenth of a second, it may leave out one before the last.
    statuses = [(at_ns, payload) for at_ns, one, payload in heard.states if one == "status"]
    last = [
        payload
        for (at_ns, payload), after in zip(statuses, [*statuses[1:], (1 << 62, b"")], strict=True)
        if after[0] - at_ns > 150_000_000
    ]
    told_by_light = [payload for one, payload in sent if one == "status"]
    every = iter([payload for _, payload in statuses])
    assert all(payload in every for payload in told_by_light)
    rest = iter(told_by_light)
    assert all(payload in rest for payload in last)


# ------------------------------------------------------------------ real uplinks, broker and service


@pytest.mark.timeout(300)
def test_a_storm_loses_nothing_and_everybody_is_back(tmp_path: Path) -> None:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed: the embedded broker keeps nothing over a restart")
    storm = asyncio.run(run_storm(8, course=Course(swallowed_s=1.5, refused_s=2.0, down_s=1.5)))
    assert (storm.lost, storm.doubled) == (0, 0)
    assert storm.stored == storm.pressed == 48
    assert len(storm.back_s) == storm.dark == 2
    assert len(storm.after_restart_s) == 8
    assert max(storm.attempts) < 8 * 8  # a second; no unit tries all the time


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sixty_units_are_back_within_ten_seconds(tmp_path: Path) -> None:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    assert asyncio.run(run_storm(60)).passed


@pytest.mark.timeout(300)
def test_a_live_city_is_dispatched_by_the_service_s_own_picture() -> None:
    said: list[str] = []
    options = Options(units=3, calls=30, hours=1.0, seed=1)
    sent = asyncio.run(run_live(options, speed=60.0, for_s=12.0, listen=None, say=said.append))
    assert any(one.startswith("dispatch's page: http://127.0.0.1:") for one in said), said
    assert sent >= 1, said


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_a_whole_day_of_a_city(tmp_path: Path) -> None:
    day = run_day(Options(), tmp_path)
    verdict = judge(day)
    assert verdict.account.clean, verdict.account
    assert all(row.agrees for row in verdict.vital), verdict.vital
    assert day.without_unit == 0
