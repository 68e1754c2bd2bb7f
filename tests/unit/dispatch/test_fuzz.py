"""Whatever is published: it is read, refused or ignored, costs nobody else, and never ends the service."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.dispatch.fleet import Fleet
from agent.dispatch.intake import Intake, Message, record_body
from agent.dispatch.kit import KitUnit
from agent.dispatch.settings import Picture
from agent.dispatch.unit_voice import UnitVoice
from agent.wire.topics import Topics

A1, A2 = UnitVoice(Topics("boston-ems", "A1")), UnitVoice(Topics("boston-ems", "A2"))
NOW_MS = 1_790_000_000_000


def scripted() -> list[tuple[str, bytes]]:
    """Good payloads of every form that the kit knows, as seeds."""
    said: list[tuple[str, bytes]] = []
    kit = KitUnit(A1.topics, lambda topic, payload, _: said.append((topic, payload)), NOW_MS)
    for _ in kit.steps():
        pass
    return said


SEEDS = [*scripted(), A1.positions(1, 20, NOW_MS), A1.location(NOW_MS, 1.0, 2.0), A1.emergency(1, NOW_MS)]
TOPICS = sorted({topic for topic, _ in SEEDS} | {"ems/v1/boston-ems/A1/reply/replay", "ems/v1/x", "a/b", ""})


@st.composite
def mangled(draw: st.DrawFn) -> tuple[str, bytes]:
    """A good payload with some bytes changed, cut, doubled, or on another topic."""
    topic, payload = draw(st.sampled_from(SEEDS))
    data = bytearray(payload)
    for _ in range(draw(st.integers(0, 6))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    cut = draw(st.integers(0, len(data)))
    data = data[cut:] if draw(st.booleans()) else data[: len(data) - cut // 4]
    return draw(st.sampled_from([topic, topic, *TOPICS])), bytes(data)


rubbish = st.tuples(st.sampled_from(TOPICS), st.binary(max_size=300))


@given(st.lists(mangled() | rubbish, max_size=12))
def test_no_message_ends_the_intake_or_touches_another_unit(spoken: list[tuple[str, bytes]]) -> None:
    intake, fleet = Intake(()), Fleet(Picture())
    heard = intake.hear(
        [Message(topic, payload, NOW_MS, token=number) for number, (topic, payload) in enumerate(spoken)]
    )
    fleet.take(heard, NOW_MS)
    for batch in heard.batches:
        assert batch.topics == A1.topics
        for record in batch.records:
            record_body(record).encode("ascii")
    for told in fleet.changes(NOW_MS):
        assert told["unit"] == "A1"
    good = intake.hear([Message(*A2.positions(1, 3, NOW_MS), NOW_MS)])
    assert [len(batch.records) for batch in good.batches] == [3]
    assert [receipt.through_seq for topics, receipt in good.receipts if topics == A2.topics] == [3]
