"""The log: lines that can not be forged, and floods that are counted instead of written."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.runtime.log import LINES_AT_ONCE, EventHandler, EventLog
from agent.runtime.plain_text import harmless, told

HOSTILE = 'A1\n2026-11-27 12:00:00,000 ERROR   mdt.crew press_lost\x1b[2J\u2028\u202e\x00 x="y'


class Written:
    """A log that writes into memory under a clock that is moved by hand."""

    def __init__(self, *, under_systemd: bool) -> None:
        self.now_s = 0.0
        self.out = io.StringIO()
        self.handler = EventHandler(self.out, under_systemd=under_systemd, now_s=lambda: self.now_s)
        self.log = EventLog("trial")

    @property
    def lines(self) -> list[str]:
        """What stands in the log."""
        return self.out.getvalue().split("\n")[:-1]


@contextmanager
def written(*, under_systemd: bool = False) -> Iterator[Written]:
    trial = Written(under_systemd=under_systemd)
    logger = logging.getLogger("mdt.trial")
    logger.addHandler(trial.handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield trial
    finally:
        logger.removeHandler(trial.handler)
        logger.propagate = True


@pytest.mark.parametrize("under_systemd", [False, True])
def test_a_value_from_outside_can_not_make_a_second_line(*, under_systemd: bool) -> None:
    with written(under_systemd=under_systemd) as trial:
        trial.log.warning("uplink_bad_request", topic=HOSTILE, why=ValueError(HOSTILE))
        assert len(trial.lines) == 1
        assert trial.lines[0].isprintable()
        assert trial.lines[0].count('topic="A1\\n2026') == 1


@given(st.text(st.characters(), max_size=60))
def test_no_text_at_all_breaks_its_line_or_its_quotes(text: str) -> None:
    with written(under_systemd=True) as trial:
        trial.log.info("event", value=text, after=1)
    assert len(trial.lines) == 1
    assert trial.lines[0].isprintable()
    assert trial.lines[0].endswith(" after=1")
    value = trial.lines[0].removeprefix("<6>trial event value=").removesuffix(" after=1")
    inner = value[1:-1] if value.startswith('"') else value
    assert '"' not in inner.replace("\\\\", "").replace('\\"', "")
    assert value.startswith('"') or (" " not in value and "=" not in value)


def test_the_words_of_an_exception_can_not_forge_a_line_of_the_traceback() -> None:
    def fail() -> None:
        raise ValueError("x\n<3>crew press_lost key=emergency")

    with written(under_systemd=True) as trial:
        try:
            fail()
        except ValueError as error:
            trial.log.error("unit_failed", exc=error)
        assert trial.lines[0] == "<3>trial unit_failed"
        assert all(line.startswith("<3>trial   | ") for line in trial.lines[1:])
        assert any("in fail" in line for line in trial.lines)


def test_what_a_library_logs_is_one_quoted_value() -> None:
    with written() as trial:
        logging.getLogger("mdt.trial").warning("two %s", "lines\nmdt.crew press_lost")
        assert len(trial.lines) == 1
        assert 'message="two lines\\nmdt.crew press_lost"' in trial.lines[0]


def test_a_flood_of_one_event_is_counted_and_other_events_are_written() -> None:
    with written() as trial:
        for number in range(5000):
            trial.log.info("uplink_replay", number=number)
        assert len(trial.lines) == LINES_AT_ONCE
        trial.log.warning("press_not_stored", key="on_scene")
        assert "press_not_stored" in trial.lines[-1]
        trial.now_s = 3.0
        trial.log.info("uplink_replay", number="next")
        assert trial.lines[-1].endswith(f"number=next suppressed={5000 - LINES_AT_ONCE}")


def test_a_flood_that_ended_is_summed_up_without_another_line_of_its_own() -> None:
    with written() as trial:
        for number in range(LINES_AT_ONCE + 7):
            trial.log.info("uplink_replay", number=number)
        trial.now_s = 61.0
        trial.log.info("something_else")
        assert trial.lines[-1].endswith("log_suppressed of=uplink_replay lines=7")


def test_what_was_left_out_is_told_at_the_end() -> None:
    with written() as trial:
        for number in range(LINES_AT_ONCE + 3):
            trial.log.info("uplink_replay", number=number)
        trial.handler.close()
        assert trial.lines[-1].endswith("log_suppressed of=uplink_replay lines=3")


def test_a_log_that_can_not_be_written_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    with written() as trial:
        trial.out.close()
        trial.log.info("event")
    assert capsys.readouterr() == ("", "")


def test_long_values_are_cut() -> None:
    with written() as trial:
        trial.log.info("event", value="x" * 100_000)
        assert len(trial.lines[0]) < 1000


def test_an_exception_never_shows_the_bytes_it_was_made_with() -> None:
    with pytest.raises(UnicodeDecodeError) as caught:
        b"hunter2\xff".decode()
    assert "hunter2" in repr(caught.value)
    assert "hunter2" not in told(caught.value)
    assert told(caught.value).startswith("UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff")


@given(st.text(st.characters()))
def test_harmless_text_can_be_printed_everywhere(text: str) -> None:
    plain = harmless(text)
    assert plain.isprintable()
    assert plain.encode().decode() == plain
    assert harmless(plain) == plain


def test_harmless_text_keeps_every_alphabet_and_cuts_what_is_long() -> None:
    assert harmless("Krankenhaus Köln, 東京 救急") == "Krankenhaus Köln, 東京 救急"
    assert harmless("abcdef", 4) == "abc…"
    assert harmless("\x1b[31m\u2066") == "\\x1b[31m\\u2066"


def test_the_handler_is_set_up_for_libraries_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.runtime import log

    loggers = [logging.getLogger(), logging.getLogger("mdt")]
    before = [(one.handlers, one.level, one.propagate) for one in loggers]
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    try:
        log.set_up("info")
        logging.getLogger("asyncio").error("first\nsecond")
        EventLog("crew").info("ready", unit="A1")
        assert [line.split(" ", 3)[3] for line in out.getvalue().splitlines()] == [
            '  asyncio message="first\\nsecond"',
            "   mdt.crew ready unit=A1",
        ]
    finally:
        for one, (handlers, level, propagate) in zip(loggers, before, strict=True):
            one.handlers, one.propagate = handlers, propagate
            one.setLevel(level)
