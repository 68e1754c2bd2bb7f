"""What all commands to the vehicle share: done once, answered, journalled, bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.record import CommandResult, Draft
from agent.domain.time_base import TimeBase
from agent.paths.fleet_commands import (
    MOST_KEPT,
    MOST_WAITING,
    Asked,
    Doing,
    FleetCommands,
    Result,
    accepted,
    done,
    refused,
)
from agent.uplink.commands import NOBODY, Asker
from agent.wire.batch import CodecError
from agent.wire.fleet_orders import DECODERS
from agent.wire.reader_request import RefusalReason, Reply
from hil.sim.manual_clock import ManualClock

NOW_MS = 1_790_000_000_000
EVERY = ("ping", "restart", "config")


class Bench:
    """The commands between a publisher and an outbox in memory."""

    def __init__(self, *, knows_time: bool = True, allowed: tuple[str, ...] = EVERY) -> None:
        self.now_ns = 0
        self.clock = ManualClock(lambda: self.now_ns, boot_id="b" * 32, unix_ms=NOW_MS)
        self.time_base = TimeBase()
        for second in range(5 if knows_time else 0):
            self.now_ns = second * 1_000_000_000
            self.time_base.take_epoch(NOW_MS + 1000 * second, self.now_ns)
        self.did: list[str] = []
        self.answers: list[tuple[Reply, Asker]] = []
        self.drafts: list[Draft] = []
        self.kept: Mapping[str, Any] = {}
        self.connected = True
        self.asker = NOBODY
        self.later: asyncio.Future[Result] | None = None
        self.commands = FleetCommands(
            {
                "ping": Doing(self._ping, changes=False),
                "restart": Doing(self._restart),
                "config": Doing(self._config),
            },
            allowed,
            records=self,
            answers=lambda: self,
            clock=self.clock,
            time_base=self.time_base,
            keep=self._keep,
        )
        self._rows = {row.name: row for row in self.commands.rows()}

    def tell(self, name: str, **fields: Any) -> Reply | None:
        before = len(self.answers)
        self._rows[name].handle(self._rows[name].decode(json.dumps(fields).encode()))
        return self.answers[-1][0] if len(self.answers) > before else None

    def restarted(self) -> Bench:
        """Another run of the agent, which knows what this one kept."""
        after = Bench()
        after.unfinished = list(after.commands.open(json.loads(json.dumps(self.kept))))
        return after

    unfinished: list[Asked]

    # of the outbox and the publisher
    def stage(self, draft: Draft) -> None:
        self.drafts.append(draft)

    def reply(self, reply: Reply, to: Asker | None = None) -> bool:
        if self.connected:
            self.answers.append((reply, to or NOBODY))
        return self.connected

    def _keep(self, picture: Mapping[str, Any]) -> None:
        self.kept = picture

    def _ping(self, _: Any, __: Asked) -> Result:
        self.did.append("ping")
        return done(result="{}")

    def _restart(self, _: Any, __: Asked) -> Result:
        self.did.append("restart")
        return accepted()

    def _config(self, order: Any, _: Asked) -> Result | Awaitable[Result]:
        self.did.append("config")
        if not order.patch:
            return refused(RefusalReason.NOT_PATCHABLE, "nothing in it")
        self.later = asyncio.get_running_loop().create_future()
        return self.later


def test_what_changes_something_is_done_once_for_its_id_and_never_for_two_contents() -> None:
    """[MDT-O-01]"""
    bench = Bench()
    bench.asker = Asker("ems/v1/a/A1/reply/restart/x", b"\x00")
    first = bench.tell("restart", id="r", by="desk", reason="a")
    assert bench.tell("restart", id="r", by="desk", reason="a") == first
    assert bench.tell("restart", id="r", reason="b").reason == "id_reused"  # type: ignore[union-attr]
    assert bench.tell("config", id="r", patch={"a": 1}).reason == "id_reused"  # type: ignore[union-attr]
    assert bench.did == ["restart"]
    bodies = [draft.body for draft in bench.drafts]
    outcomes = [one.outcome for one in bodies if isinstance(one, CommandResult)]
    assert outcomes == ["accepted", "refused", "refused"]
    after = bench.restarted()
    (asked,) = after.unfinished
    assert (asked.id, asked.by, asked.asker) == ("r", "desk", bench.asker)
    after.commands.finish(asked, done("it was started anew"))
    assert after.tell("restart", id="r", by="desk", reason="a").outcome == "done"  # type: ignore[union-attr]
    assert after.did == []
    assert not after.restarted().unfinished


def test_what_changes_nothing_is_simply_done_again() -> None:
    bench = Bench()
    bench.tell("ping", id="p")
    bench.tell("ping", id="p")
    bench.tell("ping")
    assert bench.did == ["ping"] * 3
    assert not bench.kept


def test_a_command_past_its_end_is_not_done() -> None:
    """[MDT-O-02]"""
    bench, lost = Bench(), Bench(knows_time=False)
    past, future = "2020-01-01T00:00:00+00:00", "2099-01-01T00:00:00+01:00"
    assert bench.tell("restart", id="1", until=past).reason == "expired"  # type: ignore[union-attr]
    assert bench.did == []
    assert bench.tell("restart", id="2", until=future).outcome == "accepted"  # type: ignore[union-attr]
    assert lost.tell("restart", id="3", until=future).reason == "time_unknown"  # type: ignore[union-attr]
    assert lost.did == []
    # What was done before is told also after its end.
    assert bench.tell("restart", id="2", until=future).outcome == "accepted"  # type: ignore[union-attr]


def test_what_is_refused_may_be_asked_for_again_with_its_id() -> None:
    bench = Bench()
    assert bench.tell("config", id="c", patch={}).reason == "not_patchable"  # type: ignore[union-attr]
    assert bench.tell("config", id="c", patch={}).reason == "not_patchable"  # type: ignore[union-attr]
    assert bench.did == ["config", "config"]


def test_a_command_that_is_being_done_is_not_begun_again_and_a_failure_is_told() -> None:
    async def work() -> None:
        bench = Bench()
        running = asyncio.ensure_future(bench.commands.run(lambda: None))
        assert bench.tell("config", id="c", patch={"a": 1}) is None
        assert bench.tell("config", id="c", patch={"a": 1}).outcome == "accepted"  # type: ignore[union-attr]
        assert bench.did == ["config"]
        assert bench.later is not None
        await asyncio.sleep(0)
        bench.later.set_exception(RuntimeError("the disk is gone"))
        async with asyncio.timeout(10):
            while len(bench.answers) < 2:
                await asyncio.sleep(0)
        assert bench.answers[-1][0].reason == "failed"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(work())


def test_what_is_not_allowed_is_refused_whatever_its_id() -> None:
    bench = Bench(allowed=("ping",))
    assert bench.tell("restart", id="r").reason == "not_allowed"  # type: ignore[union-attr]
    assert not bench.kept


def test_floods_fill_neither_the_journal_nor_the_memory() -> None:
    """[MDT-O-05]"""
    bench = Bench(allowed=("restart",))
    for number in range(1000):
        bench.tell("ping", id=str(number))
        bench.tell("restart", id=f"r-{number}")
    refusals = [draft for draft in bench.drafts if getattr(draft.body, "outcome", "") == "refused"]
    assert 0 < len(refusals) <= 40
    assert len(bench.kept["commands"]) == MOST_KEPT
    bench.connected = False
    for number in range(1000):
        bench.tell("ping", id=str(number))
    assert len(bench.commands._waiting) == MOST_WAITING


def test_answers_wait_for_a_connection() -> None:
    """[MDT-O-03]"""

    async def work() -> None:
        bench = Bench()
        bench.connected = False
        assert bench.tell("ping", id="p") is None
        bench.connected = True
        running = asyncio.ensure_future(bench.commands.run(lambda: None))
        async with asyncio.timeout(10):
            while not bench.answers:
                await asyncio.sleep(0)
        assert bench.answers[0][0].id == "p"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(work())


@pytest.mark.parametrize(
    "remembered",
    [{}, {"commands": None}, {"commands": [None, 7, {}, {"id": "x"}]}, {"commands": [{"correlation": "%"}]}],
)
def test_mangled_memory_is_left_out(remembered: Any) -> None:
    assert not Bench().commands.open(remembered)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda one: st.lists(one) | st.dictionaries(st.text(), one),
)


@given(st.sampled_from(sorted(DECODERS)), st.binary() | json_values.map(lambda one: json.dumps(one).encode()))
def test_no_payload_raises_anything_but_a_codec_error(name: str, payload: bytes) -> None:
    with suppress(CodecError):
        DECODERS[name](payload)


@given(
    st.sampled_from(sorted(DECODERS)),
    st.dictionaries(
        st.sampled_from(
            [
                "id",
                "by",
                "until",
                "every_s",
                "for_s",
                "names",
                "item",
                "patch",
                "what",
                "name",
                "offset",
                "journal",
                "seq",
            ]
        ),
        json_values,
    ),
)
def test_no_field_raises_anything_but_a_codec_error(name: str, fields: dict[str, Any]) -> None:
    with suppress(CodecError):
        DECODERS[name](json.dumps(fields).encode())
