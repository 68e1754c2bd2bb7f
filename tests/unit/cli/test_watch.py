"""`mdt watch` shows what dispatch sees and asks for what is missing."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.cli.exit_code import ExitCode
from agent.cli.watch import Watcher, broker_of, watch
from agent.cli.watch_display import Display, JsonDisplay, TextDisplay
from agent.cli.watch_table import Picture, UnitView, event_line, span_text
from agent.domain.fix import FixMode
from agent.domain.record import (
    KIND_OF_BODY,
    Alert,
    Body,
    Emergency,
    Gap,
    Health,
    Position,
    StatusChange,
    Stream,
    Telemetry,
)
from agent.domain.stamp import Utc, UtcSource
from agent.domain.state import HealthState, LinkState, LocationState, State, StatusState
from agent.domain.steady_health import AWAY_NOW
from agent.uplink.link.link import Closed, LinkEvent, Message, Opened, Opening, Received
from agent.wire.body import pack_body
from agent.wire.codec import BatchHeader, JournalRecord, decode_batch, encode_batch, encode_state
from agent.wire.reader_request import ReplayRequest, decode_replay_request
from agent.wire.row import Row
from agent.wire.topics import Topics

A7 = Topics("boston-ems", "A7")
P2 = Topics("boston-ems", "P2")
NOW_MS = 1_795_310_000_000
HERE = Position(42.3601, -71.0589, 12.3, 15.0, 271.4, FixMode.FIX_3D, 9, 0.9)


def utc(offset_ms: int = 0) -> Utc:
    return Utc(NOW_MS + offset_ms, UtcSource.GNSS, 0)


def batch(*rows: tuple[int, Body], replay: bool = False, history: bool = False) -> bytes:
    stream = Stream.TRAIL if isinstance(rows[0][1], Position | Telemetry | Health | Gap) else Stream.EVENTS
    header = BatchHeader("A7", stream, 1, 1, history, replay)
    made = [
        Row(seq, KIND_OF_BODY[type(body)], 1, seq, NOW_MS + seq * 1000, 3, 0, pack_body(body))
        for seq, body in rows
    ]
    return encode_batch(header, made).payload


def records(*rows: tuple[int, Body], **options: bool) -> list[JournalRecord]:
    return decode_batch(batch(*rows, **options), "A7").records


def link_state(*, online: bool = True, session: int = 7, planned: bool = False) -> LinkState:
    return LinkState(1, None, session, online, "0" * 32, 1, 1, "0.1.0", 5, planned)


class ScriptedLink:
    """A link whose connection says what the script says."""

    def __init__(self, *connections: list[LinkEvent]) -> None:
        self.connections = list(connections)
        self.published: list[Message] = []
        self.openings: list[Opening] = []
        self.on_event: Callable[[LinkEvent], None] | None = None
        self.on_publish: Callable[[Message], None] = self.published.append

    def open(self, opening: Opening, on_event: Callable[[LinkEvent], None]) -> None:
        self.openings.append(opening)
        self.on_event = on_event
        for event in self.connections.pop(0):
            asyncio.get_running_loop().call_soon(on_event, event)

    def publish(self, message: Message) -> int:
        self.on_publish(message)
        return 1

    def network_changed(self) -> None:
        pass

    async def close(self) -> None:
        self.on_event = None


def run_watcher(link: ScriptedLink, display: Display, until: Callable[[], bool]) -> int | None:
    async def scenario() -> int | None:
        watcher = Watcher(lambda: link, broker_of("mqtt://localhost"), ("#",), display, io.StringIO())
        task = asyncio.create_task(watcher.run())
        async with asyncio.timeout(10):
            while not until() and not task.done():
                await asyncio.wait({task}, timeout=0.01)
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return None

    return asyncio.run(scenario())


def test_records_and_states_come_out_as_json_lines_and_holes_are_asked_for() -> None:
    press = StatusChange("en_route", "available", "en_route", None)
    out = io.StringIO()
    link = ScriptedLink(
        [
            Opened(5),
            Received(A7.state("link"), encode_state(link_state()).payload),
            Received(A7.journal(Stream.EVENTS), batch((1, press))),
            Received(A7.journal(Stream.EVENTS), b"nonsense"),
            Received(A7.journal(Stream.EVENTS), batch((3, press))),
            Received(A7.journal(Stream.EVENTS), batch((3, press))),
        ]
    )

    def answer(message: Message) -> None:
        assert message.topic == A7.command("replay")
        assert decode_replay_request(message.payload) == ReplayRequest(Stream.EVENTS, 2, 2, 1)
        assert link.on_event is not None
        link.on_event(Received(A7.journal(Stream.EVENTS), batch((2, press), replay=True)))

    link.on_publish = answer
    err = io.StringIO()
    run_watcher(link, JsonDisplay(out, err), lambda: out.getvalue().count("\n") >= 4)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert lines[0]["state"] == "link"
    assert lines[0]["online"] is True
    assert [(line["seq"], line["replay"], line["data"]["status"]) for line in lines[1:]] == [
        (1, False, "en_route"),
        (3, False, "en_route"),
        (2, True, "en_route"),
    ]
    assert "nonsense" not in err.getvalue()
    assert "journal/events" in err.getvalue()


def test_it_connects_again_after_a_lost_connection_and_gives_up_only_on_the_first() -> None:
    out = io.StringIO()
    link = ScriptedLink([Opened(5), Closed("broker_unreachable", "it went away")], [Opened(5)])
    display = TextDisplay(out, lambda: NOW_MS)
    assert run_watcher(link, display, lambda: len(link.openings) == 2) is None
    assert "it went away" in out.getvalue()
    refused = ScriptedLink([Closed("broker_refused", "no")])
    assert run_watcher(refused, display, lambda: False) == ExitCode.UNAVAILABLE
    untrusted = ScriptedLink([Closed("tls_failed", "its certificate is not known")])
    assert run_watcher(untrusted, display, lambda: False) == ExitCode.UNAVAILABLE


def test_plain_lines_tell_events_and_thin_positions() -> None:
    out = io.StringIO()
    display = TextDisplay(out, lambda: NOW_MS)
    display.show_state(A7, link_state())
    for second in range(3):
        display.show_state(A7, LocationState(second, utc(second * 1000), HERE, FixMode.FIX_3D))
    display.show_records(A7, records((5, Emergency(active=True, input="emergency", press_seq=None))))
    display.show_records(A7, records((9, Position(1, 2, None, None, None, FixMode.FIX_2D, None, None))))
    display.refresh()
    assert out.getvalue().splitlines() == [
        "01:13:20 A7       online (agent 0.1.0)",
        "01:13:20 A7       at 42.36010 -71.05890, 54 km/h",
        "01:13:25 A7       EMERGENCY #5",
    ]


class Terminal(io.StringIO):
    """Enough of a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_table_below_scrolling_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("LINES", "30")
    out = Terminal()
    display = TextDisplay(out, lambda: NOW_MS + 70_000)
    for topics in (P2, A7):
        display.show_state(topics, link_state())
    display.show_state(A7, StatusState(1, utc(), "en_route", utc(), 5))
    display.show_state(A7, LocationState(1, utc(60_000), HERE, FixMode.FIX_3D))
    display.refresh()
    display.show_records(A7, records((5, Alert("code", "text"))))
    display.refresh()
    unchanged = out.getvalue()
    display.refresh()
    assert out.getvalue() == unchanged, "nothing is drawn when nothing changed"
    screen = seen(unchanged)
    assert [line.split()[1:2] for line in screen[:3]] == [["P2"], ["A7"], ["A7"]]
    assert screen[3].startswith("UNIT")
    assert re.match(r"A7 +en_route 1:10 +42.36010 -71.05890 +54 km/h +online +- +-", screen[4])
    assert screen[5].startswith("P2")
    assert len(screen) == 6


def seen(written: str) -> list[str]:
    """What a terminal shows of cursor-up, erase and text."""
    lines: list[str] = []
    for part in re.split(r"(\x1b\[\d+F\x1b\[J)", written):
        up = re.fullmatch(r"\x1b\[(\d+)F\x1b\[J", part)
        if up:
            del lines[-int(up[1]) :]
        else:
            lines += re.sub(r"\x1b\[[\d;]*m", "", part).splitlines()
    return lines


def line_of(*states: State, records: list[JournalRecord] | None = None) -> str:
    picture = Picture()
    view = picture.view(A7)
    for state in states:
        view.note_state(state, NOW_MS)
    for record in records or []:
        view.note_record(record)
    return picture.table(NOW_MS + 61_000, 200, colour=False)[1]


def test_the_table_never_shows_a_place_without_a_fix_as_live() -> None:
    line = line_of(LocationState(1, None, None, FixMode.NONE, HERE, utc()))
    assert "no fix" in line
    assert "km/h" not in line
    assert "0.00000" not in line_of(LocationState(1, None, None, FixMode.NONE))


def test_the_table_tells_what_is_wrong() -> None:
    assert "EMERGENCY" in line_of(StatusState(1, None, "on_scene", None, 3, emergency=True))
    assert "(not stored)" in line_of(StatusState(1, None, "on_scene"))
    assert "off 1:01" in line_of(link_state(), link_state(online=False))
    assert "2: gnss_lost, store_full" in line_of(HealthState(1, None, ("gnss_lost", "store_full")))
    late = line_of(LocationState(1, utc(400_000), HERE, FixMode.FIX_3D), records=records((100, HERE)))
    assert "5:00 behind" in late
    assert "live" in line_of(
        LocationState(1, utc(101_000), HERE, FixMode.FIX_3D), records=records((100, HERE))
    )


def test_a_late_will_of_an_old_session_is_no_news() -> None:
    view = UnitView(A7)
    assert view.note_state(link_state(session=8), NOW_MS)
    assert not view.note_state(link_state(session=7, online=False), NOW_MS)
    assert view.link is not None
    assert view.link.online
    assert view.note_state(link_state(session=8, online=False), NOW_MS)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (StatusChange("on_scene", "en_route", "x", None), "on_scene (was en_route)"),
        (Emergency(active=False, input="x", press_seq=None), "emergency cancelled"),
        (Alert("code", "A sentence."), "alert code: A sentence."),
        (HERE, "at 42.36010 -71.05890"),
        (Telemetry((("Speed", 4.5), ("X", None))), "Speed 4.5, X n/a"),
        (Health(("a",), ("a",), ("b",)), "health +a -b"),
        (Gap(9, "thinned", (("position", 3),)), "gap to #9, thinned: 3 position"),
    ],
)
def test_every_kind_has_a_line(body: Body, text: str) -> None:
    (record,) = records((5, body), history=True)
    assert event_line(record, NOW_MS) == f"01:13:25 A7       {text} history #5"


HOSTILE = "x\x1b[2J\x1b]0;owned\x07\n\x9b31m\u202egnp\u2028"


def test_nothing_that_a_unit_says_acts_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said: list[Body] = [
        StatusChange(HOSTILE, HOSTILE, HOSTILE, None),
        Alert(HOSTILE, HOSTILE),
        Telemetry(((HOSTILE, HOSTILE),)),
        Health((HOSTILE,), (HOSTILE,), (HOSTILE,)),
        Gap(9, HOSTILE, ((HOSTILE, 3),)),
    ]
    told = [replace(one, unit=HOSTILE) for body in said for one in records((5, body))]
    states: list[State] = [
        replace(link_state(), agent_version=HOSTILE),
        StatusState(1, utc(), HOSTILE, utc(), 5),
        HealthState(1, None, (HOSTILE,), ((HOSTILE, HOSTILE),)),
    ]
    topics = replace(A7, unit=HOSTILE)
    for terminal in (Terminal(), io.StringIO()):
        display = TextDisplay(terminal, lambda: NOW_MS)
        for state in states:
            display.show_state(topics, state)
        display.show_records(topics, told)
        display.note(f"connection ended: {HOSTILE}")
        display.refresh()
        own = re.sub(r"\x1b\[[\d;]*m|\x1b\[\d+F\x1b\[J", "", terminal.getvalue())
        assert all(line.isprintable() for line in own.split("\n"))
        assert len(own.splitlines()) == len(own.split("\n")) - 1
    out, err = io.StringIO(), io.StringIO()
    lines = JsonDisplay(out, err)
    for state in states:
        lines.show_state(topics, state)
    lines.show_records(topics, told)
    lines.note(HOSTILE)
    assert all(line.isprintable() for line in (out.getvalue() + err.getvalue()).split("\n"))
    assert json.loads(out.getvalue().splitlines()[0])["agent_version"] == HOSTILE


def test_a_plain_terminal_shows_backlog_and_health_of_every_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    out = Terminal()
    display = TextDisplay(out, lambda: NOW_MS)
    display.show_state(A7, link_state())
    display.show_state(A7, StatusState(1, utc(), "transporting", utc(-3_600_000), 5, emergency=True))
    display.show_state(A7, HealthState(1, None, ("gnss_no_fix", "store_full"), (), 1234))
    display.refresh()
    screen = seen(out.getvalue().replace("\a", ""))
    heading, line = screen[-2:]
    assert heading.split() == ["UNIT", "STATUS", "LINK", "BACKLOG", "HEALTH"]
    assert line == "A7      EMERGENCY transporti… online    1234 waiting  2: gnss_no_fix, store_fu…"
    assert max(map(len, screen)) < 80


def test_a_reason_that_flaps_is_shown_as_such_beside_a_fix_that_is_there() -> None:
    away = f"{AWAY_NOW}; came and went once"
    line = line_of(
        LocationState(1, utc(60_000), HERE, FixMode.FIX_3D),
        HealthState(1, None, ("gnss_no_fix", "store_full"), (("gnss_no_fix", away), ("store_full", "0 B"))),
    )
    assert "2: gnss_no_fix (on and off), store_full" in line


def test_a_low_terminal_shows_emergencies_first_and_says_what_it_leaves_out() -> None:
    picture = Picture()
    for number in range(30):
        view = picture.view(Topics("boston-ems", f"A{number:02}"))
        view.note_state(StatusState(1, None, "available", None, 1, emergency=number == 27), NOW_MS)
    table = picture.table(NOW_MS, 79, colour=False, most=23)
    assert len(table) == 23
    assert table[1].startswith("A27     EMERGENCY")
    assert table[-1] == "and 9 units that this terminal has no room for"


def test_an_event_of_another_day_carries_its_date() -> None:
    (record,) = records((5, Emergency(active=True, input="x", press_seq=None)))
    assert event_line(record, NOW_MS).startswith("01:13:25 A7")
    assert event_line(record, NOW_MS + 86_400_000).startswith("2026-11-22 01:13:25 A7")


def test_the_terminal_rings_for_an_emergency_once_and_not_for_a_replay() -> None:
    now = [NOW_MS]
    out = Terminal()
    display = TextDisplay(out, lambda: now[0])
    raised: list[tuple[int, Body]] = [(5, Emergency(active=True, input="x", press_seq=None))]
    display.show_records(A7, records(*raised, replay=True))
    display.refresh()
    assert "\a" not in out.getvalue()
    for _ in range(50):
        display.show_records(A7, records(*raised))
        display.show_state(A7, StatusState(1, None, "on_scene", None, 5, emergency=True))
        display.refresh()
    assert out.getvalue().count("\a") == 1
    now[0] += 10_000
    display.refresh()
    assert out.getvalue().count("\a") == 2, "what came while it was quiet"
    now[0] += 10_000
    display.refresh()
    assert out.getvalue().count("\a") == 2


def test_spans_read_like_a_watch() -> None:
    assert [span_text(ms) for ms in (-5, 999, 61_000, 3_600_000)] == ["0:00", "0:00", "1:01", "1:00:00"]


def test_urls_mean_brokers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MDT_BROKER_PASSWORD", raising=False)
    plain = broker_of("mqtt://localhost")
    assert (plain.host, plain.port, plain.tls, plain.username) == ("localhost", 1883, None, None)
    monkeypatch.setenv("MDT_BROKER_PASSWORD", "secret")
    for name in ("ca.pem", "client.pem", "client.key"):
        (tmp_path / name).write_text("")
    certified = broker_of(
        "mqtts://b", certificate_file=tmp_path / "client.pem", key_file=tmp_path / "client.key"
    )
    assert certified.tls is not None
    assert certified.tls.key_file == tmp_path / "client.key"
    tls = broker_of("mqtts://dis%40patch@[::1]:8884", ca_file=tmp_path / "ca.pem")
    assert (tls.host, tls.port, tls.username) == ("::1", 8884, "dis@patch")
    assert tls.tls is not None
    assert tls.tls.ca_file == tmp_path / "ca.pem"
    assert tls.password is not None
    assert tls.password.read() == "secret"
    (tmp_path / "password").write_text("from file\n")
    filed = broker_of("mqtt://a@b", password_file=tmp_path / "password").password
    assert filed is not None
    assert filed.read() == "from file"


@pytest.mark.parametrize(
    "url",
    [
        "localhost",
        "http://x",
        "mqtt://",
        "mqtt://user:password@x",
        "mqtt://x/topic",
        "mqtt://x:99999",
        "mqtt://x:y",
    ],
)
def test_other_urls_are_refused_without_repeating_a_password(url: str) -> None:
    err = io.StringIO()
    code = watch(url, agency=None, unit=None, json_lines=False, out=io.StringIO(), err=err)
    assert code == ExitCode.BAD_CONFIG
    assert err.getvalue().startswith("mdt watch: ")
    assert "user:password" not in err.getvalue()


@pytest.mark.parametrize(
    ("url", "files", "word"),
    [
        ("mqtt://x", {"certificate_file": "there", "key_file": "there"}, "need mqtts"),
        ("mqtts://x", {"certificate_file": "there"}, "go together"),
        ("mqtts://x", {"ca_file": "absent"}, "absent can not be read"),
    ],
)
def test_certificates_that_can_not_be_meant_are_refused(
    tmp_path: Path, url: str, files: dict[str, str], word: str
) -> None:
    (tmp_path / "there").write_text("")
    paths = {name: tmp_path / file for name, file in files.items()}
    with pytest.raises(ValueError, match=word):
        broker_of(url, **paths)


def test_a_time_beyond_the_calendar_ends_no_json_lines_and_a_conflict_is_marked() -> None:
    out, err = io.StringIO(), io.StringIO()
    lines = JsonDisplay(out, err)
    never = Utc(1 << 60, UtcSource.GNSS, None)
    lines.show_state(A7, LocationState(1, never, None, FixMode.NONE))
    row = Row(7, 3, 1, 5, 1 << 60, 3, None, pack_body(Alert("code", "text")))
    (record,) = decode_batch(
        encode_batch(BatchHeader("A7", Stream.EVENTS, 1, 1), [row]).payload, "A7"
    ).records
    lines.show_records(A7, [record, replace(record, utc_ms=None, conflict=True)])
    (told,) = map(json.loads, out.getvalue().splitlines())
    assert (told["seq"], told["utc"], told["conflict"]) == (7, None, True)
    assert err.getvalue().count("beyond the calendar") == 2
