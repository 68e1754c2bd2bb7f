"""The parts of a city that need no agent: streets, motion, the receiver, crews' presses, hints judged."""

from __future__ import annotations

import argparse
import json
import math
import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.reporting import position_of
from agent.hal.gnss import NmeaBytes
from agent.sources.gnss.receiver_decoder import ReceiverDecoder
from agent.wire.body import pack_body
from hil.city import command
from hil.city.crew import FLAWLESS, NEIGHBOUR, Habits, presses_of
from hil.city.day import Options, run_day
from hil.city.judge import verdict_of_hint
from hil.city.leg import Leg
from hil.city.receiver import USED, FixReceiver
from hil.city.sim_unit import Happened
from hil.city.streets import NoStreetsError, Streets
from hil.city.world import draw_world, rate_at
from hil.drive.nmea_writer import Satellite, Solution, epoch_sentences
from hil.drive.route import Sky
from hil.drive.vehicle_motion import EMERGENCY, NORMAL


@pytest.fixture(scope="module")
def streets() -> Streets:
    return Streets.made_up(1)


def test_a_made_up_city_is_one_piece_and_the_same_for_the_same_seed(streets: Streets) -> None:
    again = Streets.made_up(1)
    assert again.points == streets.points
    assert again.edges == streets.edges
    assert Streets.made_up(2).points != streets.points
    assert len(streets.metres_from(0, range(len(streets.points)))) == len(streets.points)


def test_the_nearest_node_is_the_nearest(streets: Streets) -> None:
    rng = random.Random(3)
    for _ in range(200):
        place = rng.uniform(-2_000, 14_000), rng.uniform(-2_000, 12_000)
        nearest = streets.nearest(place)
        assert math.dist(streets.points[nearest], place) == min(
            math.dist(one, place) for one in streets.points
        )


def test_a_route_follows_streets_and_is_no_longer_than_twice_the_shortest(streets: Streets) -> None:
    rng = random.Random(4)
    for _ in range(30):
        start, end = rng.randrange(len(streets.points)), rng.randrange(len(streets.points))
        way = streets.route(start, end)
        length_m = 0.0
        for a, b in pairwise(way):
            length_m += next(edge[1] for edge in streets.edges[a] if edge[0] == b)
        assert (way[0], way[-1]) == (start, end)
        assert length_m <= 2 * streets.metres_from(start, [end])[end] + 1


def test_streets_of_a_file_are_read_and_what_is_none_is_refused(tmp_path: Path, streets: Streets) -> None:
    file = tmp_path / "streets.geojson"
    file.write_text(json.dumps(streets.geojson()), encoding="utf-8")
    read = Streets.load(file)
    assert len(read.points) == len(streets.points)
    assert abs(read.width_m - streets.width_m) < 60
    for text, error in (("{}", ValueError), ('{"features": []}', NoStreetsError), ("[1]", ValueError)):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(error):
            Streets.load(file)


@pytest.mark.parametrize("manner", [NORMAL, EMERGENCY])
def test_a_leg_begins_and_ends_at_rest_and_never_leaps(streets: Streets, manner: object) -> None:
    rng = random.Random(5)
    for _ in range(10):
        start, end = rng.randrange(len(streets.points)), rng.randrange(len(streets.points))
        leg = Leg(streets, streets.route(start, end), manner, rng)  # type: ignore[arg-type]
        moments = [leg.at(t_s) for t_s in range(-2, math.ceil(leg.duration_s) + 3)]
        assert moments[0].speed_mps == moments[-1].speed_mps == 0
        assert moments[-1].point == streets.points[end]
        for before, after in pairwise(moments):
            assert math.dist(before.point, after.point) < 30
            assert abs(after.speed_mps - before.speed_mps) < 4.5


def test_a_unit_on_the_road_goes_on_from_where_it_is(streets: Streets) -> None:
    rng = random.Random(6)
    first = Leg(streets, streets.route(10, 2_000), NORMAL, rng)
    for at_s in (30.0, 60.0, 111.0):
        moment = first.at(at_s)
        node = first.node_ahead(at_s)
        leg = Leg(streets, streets.route(node, 900), NORMAL, rng, rolling=(moment.point, moment.speed_mps))
        assert math.dist(leg.at(0).point, moment.point) < 1
        assert math.dist(leg.at(1).point, moment.point) < 25
        assert leg.at(leg.duration_s).point == streets.points[900]


@given(
    lat=st.floats(-80, 80),
    lon=st.floats(-179, 179),
    speed=st.floats(0, 40),
    course=st.floats(0, 359.9),
    sky=st.sampled_from([Sky.OPEN, Sky.CANYON]),
    seed=st.integers(0, 1 << 30),
)
def test_the_city_s_receiver_tells_what_the_agent_reads_from_sentences(
    *, lat: float, lon: float, speed: float, course: float, sky: Sky, seed: int
) -> None:
    utc_ms = 1_773_468_000_000
    receiver = FixReceiver(random.Random(seed), 0.0)
    fix = receiver.fix(10, utc_ms, 5, place=(lat, lon), speed_mps=speed, course_deg=course, sky=sky)
    assert fix.lat_deg is not None
    assert fix.lon_deg is not None
    solution = Solution(
        (fix.lat_deg, fix.lon_deg),
        fix.alt_m or 0.0,
        fix.speed_mps or 0.0,
        fix.course_deg,
        fix.hdop or 0.0,
        1.0,
    )
    decoder = ReceiverDecoder()
    satellites = [Satellite(number + 1, 45, 90, 40, used=True) for number in range(USED[sky])]
    read = []
    for text in epoch_sentences(utc_ms, solution, satellites, with_view=False):
        read += decoder.feed(NmeaBytes(text, 5))
    read += decoder.idle()
    assert len(read) == 1
    by_sentences, by_fix = position_of(read[0]), position_of(fix)
    assert by_sentences is not None
    assert by_fix is not None
    assert pack_body(by_sentences) == pack_body(by_fix)
    assert read[0].utc_ms == fix.utc_ms


def test_calls_come_by_the_day_s_curve_and_units_by_their_shifts(streets: Streets) -> None:
    world = draw_world(streets, units=24, calls=3_000, hours=24, seed=1)
    by_hour = [0] * 24
    for call in world.calls:
        by_hour[(6 + int(call.at_s // 3600)) % 24] += 1
    assert by_hour[15] > 2 * by_hour[3]
    assert rate_at((15.5 - 6) * 3600) == pytest.approx(1.5)
    on_duty = [sum(duty.start_s <= hour * 3600 < duty.end_s for duty in world.duties) for hour in range(24)]
    assert max(on_duty) == 24
    assert min(on_duty) == 12
    assert draw_world(streets, units=24, calls=3_000, hours=24, seed=1).calls == world.calls


def test_habits_are_what_they_say() -> None:
    rng = random.Random(1)
    habits = Habits(missed=0.2, wrong=0.1, doubled=0.1, early=0.0, late_median_s=9.0)
    made = [presses_of(habits, rng, "on_scene", 100.0, order=1, incident=None) for _ in range(4_000)]
    share = sum(not one for one in made) / len(made)
    assert share == pytest.approx(0.2, abs=0.03)
    slips = [one for one in made if one and one[0].key == NEIGHBOUR["on_scene"]]
    assert len(slips) / len(made) == pytest.approx(0.08, abs=0.02)
    assert all(one[-1].key == "on_scene" for one in slips)
    late = sorted(one[0].at_s - 100 for one in made if one)
    assert late[len(late) // 2] == pytest.approx(9.0, abs=1.0)
    assert all(
        len(presses_of(FLAWLESS, rng, "on_scene", 100.0, order=1, incident=None)) == 1 for _ in range(50)
    )


@pytest.mark.parametrize(
    ("hint_s", "happened_s", "pressed_s", "verdict"),
    [
        (130.0, 100.0, None, 0),
        (130.0, 100.0, 132.0, 1),
        (130.0, 100.0, 115.0, 2),
        (130.0, None, None, 2),
        (130.0, 1_000.0, None, 2),
    ],
)
def test_a_hint_is_a_hit_only_if_it_was_so_and_nobody_had_pressed(
    hint_s: float, happened_s: float | None, pressed_s: float | None, verdict: int
) -> None:
    happened = [] if happened_s is None else [Happened(0, happened_s, "on_scene", "1")]
    pressed = [] if pressed_s is None else [pressed_s]
    assert verdict_of_hint(hint_s, happened, pressed) == verdict


@pytest.mark.parametrize(
    "wrong",
    [
        ["--units", "0"],
        ["--units", "-3"],
        ["--units", "100000"],
        ["--calls", "0"],
        ["--hours", "nan"],
        ["--hours", "inf"],
        ["--hours", "0"],
        ["--workers", "-1"],
        ["--streets", "/nowhere/streets.geojson"],
        ["--json", "/nowhere/figures.json"],
        ["--report", "/dev/null/report"],
    ],
)
def test_a_day_that_can_not_be_is_refused_before_it_begins(
    wrong: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    given = ["--report", str(tmp_path), "--units", "2", "--calls", "2", "--hours", "0.2", *wrong]
    assert command.run(parser.parse_args(given)) == command.IMPOSSIBLE
    told = capsys.readouterr().err
    assert wrong[0] in told or "nowhere" in told or "/dev/null" in told
    assert "Traceback" not in told


def test_a_folder_with_a_day_in_it_is_not_used_for_another(tmp_path: Path) -> None:
    (tmp_path / "dispatch.db").touch()
    with pytest.raises(ValueError, match="there is a day already"):
        run_day(Options(units=1, calls=1, hours=0.1, workers=0), tmp_path)
