"""What a day was worth: what dispatch has against what was really so.

The truth is what crews did and where units were, kept by the simulation and never by the agent. What dispatch
has is read from the service's file with plain SQL. Which record a press must become is told by the harness's
own reading of the rules (`hil.scenario.expected_presses`).
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any, NamedTuple

from agent.dispatch.store.sqlite import SqliteEngine
from agent.dispatch.vital import figures
from agent.domain.record import Kind
from hil.city.day import Day
from hil.city.dispatcher import BY_DRAWN, BY_INTERVAL, BY_TOLD
from hil.city.hint_sweep import DWELLS_S, HINTED_WITHIN_S, RADII_M, SEEN_BY_A_RULE, SweepRow
from hil.city.sim_unit import Happened, Pressed
from hil.city.world import START_UTC_MS, unit_name
from hil.process.press_log import LoggedPress
from hil.scenario.expected_presses import expected_events

TIMED = ("en_route", "on_scene", "at_patient", "transporting", "at_destination", "available")
"""Statuses whose pressed times are compared with the true ones."""
HINT_TRUE_WITHIN_S = 60.0
"""A hint that came so much before the thing became so was no false one."""
VITAL_WITHIN_S = 1.0
"""The service's figures are by the units' clocks, which a receiver sets to within half a second."""
_TOLERANCE_S = 2.0


class StoredPress(NamedTuple):
    """A status record in the service's file."""

    unit: str
    seq: int
    at_ms: int
    received_ms: int
    status: str
    incident: str | None
    flags: tuple[str, ...]


@dataclass(slots=True)
class Account:
    """Presses and records of the whole day.

    Attributes:
        expected: records that the presses must have become.
        stored: status records at dispatch.
        lost: expected and not there.
        doubled: there and not expected.
        out_of_order: records that stand at dispatch in another order than they were pressed.
        wrong_time: stored with a time that is more than two seconds off.
        records: of all kinds at dispatch.
        records_lost: numbers that the units gave out, that are neither at dispatch nor on a unit's disk.
        records_doubled: numbers that dispatch has more than once.
        waiting: records still on units' disks.
        refused: payloads that the service could not read.
        first: of what went wrong, in words.
    """

    expected: int = 0
    stored: int = 0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    wrong_time: int = 0
    records: int = 0
    records_lost: int = 0
    records_doubled: int = 0
    waiting: int = 0
    refused: int = 0
    first: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Nothing lost, nothing doubled, all in order."""
        wrong = self.lost, self.doubled, self.out_of_order, self.records_lost, self.records_doubled
        return not any((*wrong, self.refused, self.waiting, self.wrong_time))


class Way(NamedTuple):
    """What a way of reporting costs the patient."""

    name: str
    choices: int
    wrong: int
    lost_m: float
    """Of all choices together."""
    worst_m: float

    @property
    def wrong_share(self) -> float | None:
        """Of the choices."""
        return self.wrong / self.choices if self.choices else None

    @property
    def mean_lost_m(self) -> float | None:
        """A choice."""
        return self.lost_m / self.choices if self.choices else None


class TimeError(NamedTuple):
    """Pressed against true time of a status, in seconds; positive is late."""

    status: str
    happened: int
    pressed: int
    median_s: float | None
    p90_s: float | None
    over_minute: float | None
    """Share of the presses that are more than a minute off."""


class HintCount(NamedTuple):
    """Hints of a rule."""

    rule: str
    told: int
    hits: int
    """Told, and the press was missing."""
    needless: int
    """So it was, and the crew pressed by itself within the minute."""
    false: int
    """It was not so."""


class VitalRow(NamedTuple):
    """A figure of the service beside the same reckoned from the truth."""

    name: str
    service: float | None
    truth: float | None
    cases: int
    truth_cases: int

    @property
    def agrees(self) -> bool:
        """Same cases, and the same value within a second."""
        if self.service is None or self.truth is None:
            return self.service is self.truth
        return self.cases == self.truth_cases and abs(self.service - self.truth) <= VITAL_WITHIN_S


@dataclass(slots=True)
class Verdict:
    """Everything the report tells.

    Attributes:
        account: of presses and records.
        ways: of reporting.
        times: pressed against true.
        hints: of each rule, and how many forgotten presses there were that a rule could see.
        vital: the service's figures against the truth.
        left_out: of choices for which a nearer unit was really free: why dispatch did not think of it.
        left_out_m: what that cost, all together.
        delays_s: from press to commit, sorted.
    """

    account: Account
    ways: list[Way]
    times: list[TimeError]
    hints: list[HintCount]
    forgotten: int
    vital: list[VitalRow]
    left_out: dict[str, int]
    left_out_m: float
    delays_s: list[float]


def judge(day: Day) -> Verdict:
    """Compare. Reads the store of the day."""
    connection = sqlite3.connect(f"file:{day.store}?mode=ro", uri=True)
    try:
        stored = stored_presses(connection)
        account = accounted(day, stored, connection)
        hints = _hints(day, connection)
    finally:
        connection.close()
    left_out: dict[str, int] = defaultdict(int)
    left_out_m = 0.0
    for choice in day.choices:
        if choice.nearer_left_out_m > 0:
            left_out_m += choice.nearer_left_out_m
            for why in set(choice.left_out.values()):
                left_out[why] += 1
    return Verdict(
        account,
        [_way(day, name) for name in (BY_DRAWN, BY_TOLD, *BY_INTERVAL)],
        _times(day, stored),
        hints,
        len(day.sums.forgotten),
        _vital(day, stored),
        dict(left_out),
        left_out_m,
        sorted((one.received_ms - one.at_ms) / 1000 for one in stored),
    )


def stored_presses(connection: sqlite3.Connection) -> list[StoredPress]:
    """Every status record, in the order in which units numbered them."""
    rows = connection.execute(
        "SELECT units.unit, records.seq, records.at_ms, records.received_ms, records.body FROM records "
        "JOIN units ON units.unit_id = records.unit_id WHERE kind = ? "
        "ORDER BY records.stream_id, records.seq",
        (int(Kind.STATUS),),
    )
    found = []
    for unit, seq, at_ms, received_ms, text in rows:
        body = json.loads(text)
        flags = tuple(body.get("flags") or ())
        found.append(StoredPress(unit, seq, at_ms, received_ms, body["status"], body.get("incident"), flags))
    return found


def accounted(day: Day, stored: Iterable[StoredPress], connection: sqlite3.Connection) -> Account:
    """Presses against records, and numbers against rows."""
    account = Account()
    by_unit: dict[str, list[StoredPress]] = defaultdict(list)
    for one in stored:
        by_unit[one.unit].append(one)
    for index in range(day.world.units):
        pressed = [one for one in day.pressed if one.unit == index]
        _account_presses(account, unit_name(index), pressed, by_unit[unit_name(index)])
    _account_numbers(account, day, connection)
    return account


def _account_presses(
    account: Account, unit: str, pressed: Sequence[Pressed], stored: Sequence[StoredPress]
) -> None:
    logged = [
        LoggedPress(one.key, 1, number, one.at_s, released_s=one.at_s + 0.15)
        for number, one in enumerate(sorted(pressed, key=lambda one: one.at_s))
    ]
    wanted = [(event.token, event.press.pressed_s) for event in expected_events(logged, ())]
    account.expected += len(wanted)
    account.stored += len(stored)
    tokens, found = [token for token, _ in wanted], [one.status for one in stored]
    for word, a, b, c, d in SequenceMatcher(None, tokens, found, autojunk=False).get_opcodes():
        if word == "equal":
            for (_, at_s), one in zip(wanted[a:b], stored[c:d], strict=True):
                if abs(one.at_ms - START_UTC_MS - at_s * 1000) > _TOLERANCE_S * 1000:
                    account.wrong_time += 1
                    _note(account, f"{unit}: {one.status} of {at_s:.1f} s has another time")
        else:
            account.lost += b - a
            account.doubled += d - c
            _note(account, f"{unit}: {tokens[a:b]} became {found[c:d]}")
    times = [one.at_ms for one in stored]
    account.out_of_order += sum(later < earlier for earlier, later in pairwise(times))


def _account_numbers(account: Account, day: Day, connection: sqlite3.Connection) -> None:
    rows = connection.execute(
        "SELECT units.unit, streams.stream, count(*), count(DISTINCT records.seq), max(records.seq) "
        "FROM records JOIN streams ON streams.stream_id = records.stream_id "
        "JOIN units ON units.unit_id = records.unit_id GROUP BY records.stream_id"
    ).fetchall()
    there = {(unit, stream): (count, distinct) for unit, stream, count, distinct, _ in rows}
    for index, made in day.sums.made.items():
        for stream, last in made.items():
            count, distinct = there.get((unit_name(index), stream), (0, 0))
            account.records += count
            account.records_doubled += count - distinct
            if last != distinct:
                account.records_lost += max(0, last - distinct)
                _note(account, f"{unit_name(index)} {stream}: {distinct} of {last} records are at dispatch")
    account.waiting = sum(day.sums.waiting.values())
    account.records_lost = max(0, account.records_lost - account.waiting)
    account.refused = connection.execute("SELECT count(*) FROM refused").fetchone()[0]


def _note(account: Account, text: str) -> None:
    if len(account.first) < 12:
        account.first.append(text)


def _way(day: Day, name: str) -> Way:
    off = [choice.by[name].off_m for choice in day.choices if choice.by[name].unit is not None]
    wrong = [metres for metres in off if metres > 0.5]
    return Way(name, len(off), len(wrong), sum(wrong), max(wrong, default=0.0))


# ------------------------------------------------------------------ times and hints


def _times(day: Day, stored: Sequence[StoredPress]) -> list[TimeError]:
    """Of each status of each run: the last press that meant it, by the record's time, against the truth."""
    at_dispatch = {(one.unit, one.status, round(one.at_ms / 1000)): one for one in stored}
    found = []
    for status in TIMED:
        true = {(one.unit, one.incident): one.at_s for one in day.happened if one.status == status}
        errors: list[float] = []
        for one in day.pressed:
            if one.key != status or one.means != status or one.incident is None:
                continue
            key = unit_name(one.unit), status, round(START_UTC_MS / 1000 + one.at_s)
            record = next(
                (
                    at_dispatch[near]
                    for near in (key, (*key[:2], key[2] - 1), (*key[:2], key[2] + 1))
                    if near in at_dispatch
                ),
                None,
            )
            if record is not None:
                errors.append((record.at_ms - START_UTC_MS) / 1000 - one.true_s)
        errors.sort()
        happened = sum(incident is not None for _, incident in true)
        over = sum(abs(error) > 60 for error in errors) / len(errors) if errors else None
        found.append(
            TimeError(status, happened, len(errors), _quantile(errors, 0.5), _quantile(errors, 0.9), over)
        )
    return found


def _hints(day: Day, connection: sqlite3.Connection) -> list[HintCount]:
    truth: dict[tuple[str, str], list[Happened]] = defaultdict(list)
    for one in day.happened:
        truth[unit_name(one.unit), one.status].append(one)
    presses: dict[tuple[str, str], list[float]] = defaultdict(list)
    for pressed in day.pressed:
        presses[unit_name(pressed.unit), pressed.key].append(pressed.at_s)
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    rows = connection.execute(
        "SELECT units.unit, at_ms, body FROM records JOIN units ON units.unit_id = records.unit_id "
        "WHERE kind = ? ORDER BY at_ms",
        (int(Kind.HINT),),
    )
    for unit, at_ms, text in rows:
        body, at_s = json.loads(text), (at_ms - START_UTC_MS) / 1000
        counted = counts[body["rule"]]
        counted[0] += 1
        counted[1 + verdict_of_hint(at_s, truth[unit, body["status"]], presses[unit, body["status"]])] += 1
    return [HintCount(rule, *counted) for rule, counted in sorted(counts.items())]


def sweep_rows(day: Day) -> list[SweepRow]:
    """What each radius and dwell time is worth, from a day that was lived with `sweep`."""
    truth: dict[tuple[int, str], list[Happened]] = defaultdict(list)
    for one in day.happened:
        truth[one.unit, one.status].append(one)
    presses: dict[tuple[int, str], list[float]] = defaultdict(list)
    for pressed in day.pressed:
        presses[pressed.unit, pressed.key].append(pressed.at_s)
    forgotten = [one for one in day.sums.forgotten if one.status in SEEN_BY_A_RULE and one.incident]
    rows = []
    for radius_m in RADII_M:
        for dwell_s in DWELLS_S:
            hints = [one for one in day.sums.hints if (one.radius_m, one.dwell_s) == (radius_m, dwell_s)]
            verdicts = [
                verdict_of_hint(one.at_s, truth[one.unit, one.suggests], presses[one.unit, one.suggests])
                for one in hints
            ]
            after = [
                min(times)
                for lost in forgotten
                if (
                    times := [
                        one.at_s - lost.at_s
                        for one in hints
                        if (one.unit, one.suggests) == (lost.unit, lost.status)
                        and 0 <= one.at_s - lost.at_s <= HINTED_WITHIN_S
                    ]
                )
            ]
            rows.append(
                SweepRow(
                    radius_m,
                    dwell_s,
                    len(hints),
                    verdicts.count(2),
                    len(hints) - verdicts.count(2) - len(after),
                    len(after),
                    len(forgotten),
                    _quantile(sorted(after), 0.5),
                )
            )
    return rows


def verdict_of_hint(at_s: float, happened: Sequence[Happened], pressed: Sequence[float]) -> int:
    """0 for a hit: it is so, and nobody pressed for the minute after. 1: the crew did so itself. 2: false."""
    since = max((one.at_s for one in happened if one.at_s <= at_s + HINT_TRUE_WITHIN_S), default=None)
    if since is None or at_s - since > 3600:
        return 2
    if any(since - 30 <= press_s <= at_s for press_s in pressed):
        return 2  # it was so, and pressed: there was nothing to ask for
    return 1 if any(at_s < press_s <= at_s + 5 for press_s in pressed) else 0


# ------------------------------------------------------------------ vital statistics


def _vital(day: Day, stored: Sequence[StoredPress]) -> list[VitalRow]:
    """The service's own figures against the same from crews' presses and the dispatcher's own times."""
    del stored
    engine = SqliteEngine(day.store)
    connection = engine.look()
    try:
        told = {one.name: one for one in figures(connection, START_UTC_MS, day.end_ms)}
    finally:
        connection.close()
    parts = _true_parts(day)
    rows = []
    for name, values in parts.items():
        for word, share in (("median", 0.5), ("p90", 0.9)):
            figure = told.get(f"{name}.{word}[all]")
            rows.append(
                VitalRow(
                    f"{name}.{word}",
                    None if figure is None else figure.value,
                    _quantile(sorted(values), share),
                    0 if figure is None else figure.cases,
                    len(values),
                )
            )
    return rows


def _true_parts(day: Day) -> Mapping[str, list[float]]:
    """Durations of each part of each run, put together from presses as the crews made them."""
    runs: list[dict[str, float]] = []
    assigned: dict[int, list[tuple[float, str]]] = defaultdict(list)
    for choice in day.choices:
        assigned[choice.unit].append((choice.at_s, "assigned"))
    for index in range(day.world.units):
        last = ""
        happened: list[tuple[float, str]] = list(assigned[index])
        for one in sorted((one for one in day.pressed if one.unit == index), key=lambda one: one.at_s):
            if one.key != last:
                happened.append((one.at_s, one.key))
                last = one.key
        run: dict[str, float] | None = None
        for at_s, what in sorted(happened):
            if what == "assigned" or (run is None and what in _ON_A_RUN):
                run = {}
                runs.append(run)
            if run is not None:
                over = what in ("available", "in_quarters", "cancelled", "out_of_service")
                run.setdefault("available" if over else what, at_s)
                run = None if over else run
    parts: dict[str, list[float]] = {}
    for name, (first, last) in _PARTS.items():
        parts[name] = [
            run[last] - run[first] for run in runs if first in run and last in run and run[last] >= run[first]
        ]
    return parts


_ON_A_RUN = frozenset({"acknowledged", "en_route", "on_scene", "at_patient"}) | {
    "transporting",
    "at_destination",
    "transfer_of_care",
}
_PARTS = {
    "response": ("assigned", "on_scene"),
    "turnout": ("assigned", "en_route"),
    "travel": ("en_route", "on_scene"),
    "scene": ("on_scene", "transporting"),
    "transport": ("transporting", "at_destination"),
    "turnaround": ("at_destination", "available"),
}


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """Nearest rank; None of nothing."""
    if not ordered:
        return None
    rank = -(-len(ordered) * round(share * 1000) // 1000)
    return ordered[max(0, rank - 1)]


def told(verdict: Verdict, day: Day) -> dict[str, Any]:
    """Everything as plain values, for `--json`."""
    return {
        "units": day.options.units,
        "calls": day.options.calls,
        "hours": day.options.hours,
        "seed": day.options.seed,
        "digest": day.digest,
        "wall_s": round(day.wall_s, 1),
        "cpu_s": round(day.cpu_s, 1),
        "rss_mib": round(day.rss_mib, 1),
        "account": {name: getattr(verdict.account, name) for name in Account.__slots__},
        "ways": [
            one._asdict() | {"wrong_share": one.wrong_share, "mean_lost_m": one.mean_lost_m}
            for one in verdict.ways
        ],
        "times": [one._asdict() for one in verdict.times],
        "hints": [one._asdict() for one in verdict.hints],
        "forgotten": verdict.forgotten,
        "vital": [one._asdict() | {"agrees": one.agrees} for one in verdict.vital],
        "left_out": verdict.left_out,
        "left_out_m": verdict.left_out_m,
        "picture": {
            word: {
                "cases": spread.cases,
                "median_m": spread.quantile(0.5),
                "p95_m": spread.quantile(0.95),
                "p99_m": spread.quantile(0.99),
                "within_25_m": spread.share_within(25),
            }
            for word, spread in day.picture.items()
        },
        "packet_bytes_an_hour": {
            kind: round(count / day.duty_hours) for kind, count in sorted(day.bytes_of.items())
        },
        "unanswered": day.unanswered,
        "without_unit": day.without_unit,
        "power_cuts": sum(day.sums.dark.values()),
        "trail_lost_to_power_cuts": sum(day.sums.lost_staged.values()),
        "sent_again": sum(day.sums.sent_again.values()),
    }
