"""What is told of a signal: changes beyond the deadband, not too often, and a sign of life."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agent.domain.vehicle import Signal
from agent.hal.can import CanFrame
from agent.sources.can.can_decoder import BitField, CanDecoder, MessageLayout, SignalLayout
from agent.sources.can.decoder_compiler import compile_decoder
from agent.sources.can.signal_changes import SignalChanges
from agent.sources.can.vehicle_file import load_vehicle_file

S = 1_000_000_000
MS = 1_000_000


def changes(*, deadband: float = 0, min_interval_ns: int = 0) -> SignalChanges:
    byte = SignalLayout(
        name="A",
        unit="km/h",
        bits=BitField(0, 0xFF, False),
        values={255: None},
        deadband=deadband,
        min_interval_ns=min_interval_ns,
    )
    bit = SignalLayout(
        name="B", unit=None, bits=BitField(8, 1, False), values={0: False, 1: True}, only_values=True
    )
    message = MessageLayout("M", 1, False, 2, (byte, bit), 0x1FF, False)
    return SignalChanges(CanDecoder([message]))


def take(state: SignalChanges, at_ns: int, a: int, b: int = 0, counter: int = 0) -> list[tuple[str, object]]:
    frame = CanFrame(1, False, bytes([a, b | counter << 1]), at_ns)
    return [(signal.name, signal.value) for signal in state.take([frame])]


def test_only_changes_are_told() -> None:
    state = changes()
    assert take(state, 0, 5) == [("A", 5), ("B", False)]
    assert take(state, 10 * MS, 5, counter=3) == []
    assert take(state, 20 * MS, 6) == [("A", 6)]
    assert take(state, 30 * MS, 6, 1) == [("B", True)]
    assert take(state, 40 * MS, 255, 1) == [("A", None)]


def test_what_is_still_true_is_told_again() -> None:
    state = changes()
    take(state, 0, 5)
    told = [at_ms for at_ms in range(10, 10_000, 10) if take(state, at_ms * MS, 5, counter=at_ms % 16)]
    assert told == list(range(1000, 10_000, 1000))


def test_noise_within_the_deadband_is_not_told_but_standing_still_is() -> None:
    state = changes(deadband=5)
    assert take(state, 0, 50)[0] == ("A", 50)
    assert take(state, 10 * MS, 54) == []
    assert take(state, 1500 * MS, 54)[0] == ("A", 50)  # told again as it was told
    assert take(state, 1510 * MS, 55) == [("A", 55)]
    take(state, 1520 * MS, 3)
    assert take(state, 1530 * MS, 0) == [("A", 0)]


def test_the_last_of_close_changes_is_told_when_the_interval_is_over() -> None:
    state = changes(min_interval_ns=S)
    take(state, 0, 1)
    assert take(state, 100 * MS, 2) == []
    assert take(state, 200 * MS, 3) == []
    assert state.release(999 * MS) == []
    assert state.release(1000 * MS) == [Signal("A", 3, 200 * MS)]
    assert state.release(5000 * MS) == []


def test_a_change_taken_back_within_the_interval_is_not_told() -> None:
    state = changes(min_interval_ns=S)
    take(state, 0, 1)
    take(state, 100 * MS, 2)
    take(state, 200 * MS, 1)
    assert state.release(5000 * MS) == []


def test_j1939_keeps_to_the_control_unit_that_has_a_value() -> None:
    speed = SignalLayout(name="A", unit="km/h", bits=BitField(0, 0xFF, False), highest_raw=0xFA)
    message = MessageLayout("CCVS1", 0x18FEF1FE, True, 1, (speed,), 0xFF, False)
    state = SignalChanges(CanDecoder([message], "j1939"))

    def hear(at_ms: int, address: int, raw: int) -> list[object]:
        frame = CanFrame(0x18FEF100 | address, True, bytes([raw]), at_ms * MS)
        return [signal.value for signal in state.take([frame])]

    assert hear(0, 0x21, 0xFF) == [None]
    assert hear(10, 0x00, 50) == [50]  # has a value where the first has none
    assert hear(20, 0x21, 0xFF) == []
    assert hear(30, 0x0B, 52) == []
    assert hear(40, 0x00, 51) == [51]
    assert hear(5000, 0x0B, 53) == []
    assert hear(5041, 0x0B, 54) == [54]  # the other is silent
    assert hear(5050, 0x00, 55) == []
    assert hear(5060, 0x0B, 0xFF) == [None]
    assert hear(5070, 0x00, 56) == [56]


@given(
    values=st.lists(st.tuples(st.integers(0, 255), st.integers(1, 700)), min_size=1, max_size=60),
    deadband=st.sampled_from([0, 1, 7]),
    interval_ms=st.sampled_from([0, 100, 1500]),
)
def test_who_listens_is_never_far_from_the_truth(
    values: list[tuple[int, int]], deadband: float, interval_ms: int
) -> None:
    state = changes(deadband=deadband, min_interval_ns=interval_ms * MS)
    known: object = None
    at_ms = 0
    for raw, pause_ms in values:
        for name, value in take(state, at_ms * MS, raw):
            known = value if name == "A" else known
        at_ms += pause_ms
        for signal in state.release(at_ms * MS):
            known = signal.value if signal.name == "A" else known
    for signal in state.release((at_ms + interval_ms) * MS):
        known = signal.value if signal.name == "A" else known
    last = None if values[-1][0] == 255 else values[-1][0]
    if isinstance(known, int) and last is not None:
        assert abs(known - last) < max(deadband, 1)
    else:
        assert known == last


def test_a_pulse_of_a_single_frame_is_two_changes() -> None:
    """Siren, brake, doors and belts: what lasts one frame is told with both its times."""
    demo = Path(__file__).resolve().parents[4] / "config" / "vehicles" / "demo_ambulance.toml"
    changes = SignalChanges(compile_decoder(load_vehicle_file(demo), demo))
    quiet, loud = bytes(4), b"\x04\x00\x00\x00"
    frames = [CanFrame(928, False, loud if tick == 7 else quiet, tick * 200_000_000) for tick in range(12)]
    siren = [one for one in changes.take(frames) if one.name == "Ambulance.Siren.IsOn"]
    switched = [(one.value, one.received_boottime_ns) for one in siren if one.received_boottime_ns]
    assert (True, 1_400_000_000) in switched
    assert (False, 1_600_000_000) in switched
