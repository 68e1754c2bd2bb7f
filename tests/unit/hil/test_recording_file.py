"""Recordings: what is written is read, and damage costs no more than what it hit."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.writer import Writer

from agent.recorder import recording_file
from agent.recorder.recording_format import schema_of
from hil.drive.items import (
    ButtonItem,
    CanItem,
    ClockItem,
    CoverageItem,
    IgnitionItem,
    NmeaItem,
    TimedItem,
    TruthItem,
)
from hil.drive.route import Sky
from hil.recording.mcap_file import RecordingReader, RecordingWriter

TIMES = st.integers(0, 2**53)
SMALL = st.integers(0, 2**40)
ITEMS = st.one_of(
    st.builds(NmeaItem, TIMES, st.binary(max_size=300)),
    st.builds(
        CanItem,
        TIMES,
        st.sampled_from(["can0", "can1"]),
        st.integers(0, 2**29 - 1),
        st.booleans(),
        st.binary(max_size=64),
    ),
    st.builds(
        ButtonItem, TIMES, st.text(max_size=10), st.booleans(), st.none() | SMALL, st.none() | SMALL, TIMES
    ),
    st.builds(IgnitionItem, TIMES, st.booleans()),
    st.builds(ClockItem, TIMES, SMALL, st.booleans(), SMALL),
    st.builds(CoverageItem, TIMES, st.booleans()),
    st.builds(
        TruthItem,
        TIMES,
        SMALL,
        st.floats(-90, 90),
        st.floats(-180, 180),
        st.floats(0, 60),
        st.floats(0, 360, exclude_max=True),
        st.text(max_size=8),
        st.text(max_size=8),
        st.sampled_from(Sky),
        st.floats(0, 1e9),
        st.booleans(),
    ),
)


def write(path: Path, items: list[TimedItem]) -> None:
    path.unlink(missing_ok=True)
    with RecordingWriter(path, {"unit": "A1"}) as writer:
        writer.write_all(items)


@settings(max_examples=30, deadline=None)
@given(items=st.lists(ITEMS, max_size=30).map(lambda items: sorted(items, key=lambda item: item.t_ns)))
def test_every_item_reads_back(tmp_path_factory: pytest.TempPathFactory, items: list[TimedItem]) -> None:
    path = tmp_path_factory.mktemp("recording") / "drive.mcap"
    write(path, items)
    reader = RecordingReader(path)
    assert list(reader.items()) == items
    assert reader.found.damage is None
    assert reader.found.metadata == {"format": "1", "unit": "A1"}


SAMPLE: list[TimedItem] = [
    item
    for t_ns in range(0, 150, 10)
    for item in (
        NmeaItem(t_ns, b"$GPGSV,1,1,00*79\r\n"),
        CanItem(t_ns + 1, "can0", 0x120, False, bytes([t_ns % 256] * 8)),
        ButtonItem(t_ns + 2, "on_scene", True, None, t_ns, t_ns + 2),
    )
]


def make_sample(path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A recording of several chunks."""
    monkeypatch.setattr(recording_file, "CHUNK_BYTES", 300)
    write(path, SAMPLE)
    return path.read_bytes()


def chunk_ends(path: Path) -> list[tuple[int, int]]:
    """(byte where a chunk ends, messages in the chunks up to it)."""
    with path.open("rb") as stream:
        summary = make_reader(stream).get_summary()
    assert summary is not None
    return [
        (
            chunk.chunk_start_offset + chunk.chunk_length,
            sum(item.t_ns <= chunk.message_end_time for item in SAMPLE),
        )
        for chunk in summary.chunk_indexes
    ]


def test_cut_anywhere_every_whole_chunk_before_the_cut_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole.mcap", tmp_path / "cut.mcap"
    data = make_sample(whole, monkeypatch)
    ends = chunk_ends(whole)
    assert len(ends) > 5
    assert ends[-1][1] == len(SAMPLE)
    near_ends = {end + by for end, _ in ends for by in (-1, 0, 1, 9)}
    for size in sorted({*range(0, len(data), 17), *near_ends, len(data) - 1}):
        cut.write_bytes(data[:size])
        reader = RecordingReader(cut)
        items = list(reader.items())
        expected = max((count for end, count in ends if end <= size), default=0)
        assert items == SAMPLE[:expected], size
        assert reader.found.damage is not None
        assert reader.found.damage.size_bytes == size
        assert str(reader.found.damage)


def test_a_flipped_byte_anywhere_is_survived_and_nothing_before_it_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, bad = tmp_path / "whole.mcap", tmp_path / "bad.mcap"
    data = make_sample(whole, monkeypatch)
    ends = chunk_ends(whole)
    data_end = ends[-1][0]
    near_ends = {end + by for end, _ in ends for by in range(-1, 10)}
    for at in sorted({*range(0, len(data), 19), *near_ends}):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8 if at % 2 else 0xFF
        bad.write_bytes(flipped)
        reader = RecordingReader(bad)
        items = list(reader.items())
        # What is given is true: the checksums of the chunks see to that.
        assert items == SAMPLE[: len(items)], at
        assert len(items) >= max((count for end, count in ends if end <= at), default=0), at
        if at < data_end:
            assert reader.found.damage is not None, at


def test_a_file_that_is_no_recording(tmp_path: Path) -> None:
    path = tmp_path / "text.mcap"
    path.write_bytes(b"this is not a recording at all\n" * 10)
    reader = RecordingReader(path)
    assert list(reader.items()) == []
    assert reader.found.damage is not None
    assert "damaged at byte 0 of 310" in str(reader.found.damage)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=400))
def test_arbitrary_bytes_never_raise(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("recording") / "noise.mcap"
    path.write_bytes(b"\x89MCAP0\r\n" + data)
    reader = RecordingReader(path)
    assert list(reader.items()) == []
    assert reader.found.damage is not None


def test_channels_of_others_and_messages_that_can_not_be_decoded_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "other.mcap"
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start()
        camera = writer.register_channel("camera/front", "x-jpeg", 0)
        schema = schema_of("ignition/edges")
        schema_id = writer.register_schema(schema.name, schema.encoding, schema.text.encode())
        ignition = writer.register_channel("ignition/edges", "json", schema_id)
        writer.add_message(camera, 1, b"...", 1)
        writer.add_message(ignition, 2, b'{"on":', 2)
        writer.add_message(ignition, 3, b'{"on":true}', 3)
        writer.finish()  # type: ignore[no-untyped-call]  # mcap is only half annotated
    reader = RecordingReader(path)
    assert list(reader.items()) == [IgnitionItem(3, on=True)]
    assert reader.found.unknown == {"camera/front": 1}
    assert reader.found.bad == {"ignition/edges": 1}
    assert reader.found.damage is None


def test_items_that_came_late_are_put_where_they_belong(tmp_path: Path) -> None:
    path = tmp_path / "late.mcap"
    second = 1_000_000_000
    write(path, [NmeaItem(t * second, b"") for t in (1, 5, 3, 20, 18, 40)])
    assert [item.t_ns // second for item in RecordingReader(path).items()] == [1, 3, 5, 18, 20, 40]


def test_the_file_is_an_ordinary_mcap(tmp_path: Path) -> None:
    path = tmp_path / "drive.mcap"
    write(path, SAMPLE)
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None
        assert summary.statistics is not None
        assert summary.statistics.message_count == len(SAMPLE)
        encodings = {one.topic: one.message_encoding for one in summary.channels.values()}
        assert encodings == {"gnss/nmea": "ros1", "can/can0": "ros1", "buttons/edges": "json"}
        assert {one.encoding for one in summary.schemas.values()} == {"ros1msg", "jsonschema"}
        assert sum(1 for _ in reader.iter_messages(topics=["can/can0"])) == 15
