"""The response mode of each leg, by time and distance, and in the words of NEMSIS."""

from __future__ import annotations

from agent.domain.record import ResponseLeg, ResponseMode
from agent.domain.response_leg import ResponseLegs

S = 1_000_000_000
N, L, LS = ResponseMode.NORMAL, ResponseMode.LIGHTS, ResponseMode.LIGHTS_AND_SIREN


def drive(
    *pieces: tuple[str, str | None, ResponseMode | None, int], speed: float | None = 10
) -> list[ResponseLeg]:
    """(status, incident, mode, seconds) in a row; what ended."""
    legs, found, now_s = ResponseLegs(), [], 0
    for status, incident, mode, seconds in pieces:
        for _ in range(seconds):
            leg = legs.look(now_s * S, status, incident, mode=mode, speed_mps=speed)
            found += [] if leg is None else [leg]
            now_s += 1
    return found


def test_a_leg_with_siren_at_the_crossings_is_one_with_lights_and_siren() -> None:
    (leg,) = drive(("en_route", "1", L, 200), ("en_route", "1", LS, 60), ("on_scene", "1", N, 5))
    assert (leg.leg, leg.incident, leg.nemsis) == ("to_scene", "1", "2224015")
    assert (leg.duration_s, leg.lights_s, leg.siren_s, leg.normal_s) == (260, 200, 60, 0)
    assert (leg.distance_m, leg.lights_m, leg.siren_m) == (2600, 2000, 600)
    assert (leg.begun, leg.ended) == (L, N)


def test_each_way_of_driving_has_its_code() -> None:
    def code(*modes: tuple[ResponseMode | None, int]) -> str | None:
        pieces = [("transporting", "1", mode, seconds) for mode, seconds in modes]
        (leg,) = drive(*pieces, ("at_destination", "1", None, 2))
        return leg.nemsis

    assert code((N, 300)) == "4218015"
    assert code((L, 300)) == "4218013"
    assert code((LS, 300)) == "4218011"
    assert code((N, 150), (LS, 150)) == "4218017"
    assert code((LS, 150), (N, 150)) == "4218019"
    assert code((None, 300)) is None


def test_what_nobody_tells_is_not_known_and_not_nothing() -> None:
    (leg,) = drive(("en_route", None, None, 100), ("on_scene", None, None, 2), speed=None)
    assert leg.duration_s == 100
    assert (leg.distance_m, leg.normal_s, leg.lights_m, leg.nemsis) == (None, None, None, None)


def test_another_call_begins_another_leg_and_staging_does_not_end_one() -> None:
    found = drive(
        ("en_route", "1", LS, 50), ("en_route", "2", LS, 50), ("staged", "2", L, 20), ("on_scene", "2", N, 2),
        ("available", None, N, 20),
    )  # fmt: skip
    assert [(leg.incident, leg.duration_s) for leg in found] == [("1", 50), ("2", 70)]


def test_a_clock_that_stood_still_adds_no_time() -> None:
    legs = ResponseLegs()
    legs.look(0, "en_route", "1", mode=L, speed_mps=10)
    legs.look(3600 * S, "en_route", "1", mode=L, speed_mps=10)
    leg = legs.look(3601 * S, "on_scene", "1", mode=N, speed_mps=0)
    assert leg is not None
    assert (leg.lights_s, leg.distance_m) == (1, 0)
