"""Vital statistics of a service, from what is stored. Each figure says what it means and of how many cases.

Times are the crews' presses with their UTC. A run begins with the assignment (else with the first press of a
run) and ends when the unit is available again. Nothing is guessed: a part whose end was not pressed is left
out and not counted.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.dispatch import queries
from agent.dispatch.fleet import ON_A_RUN
from agent.dispatch.store.engine import Connection
from agent.domain.record import Kind
from agent.wire.time_text import unix_ms

Interval = tuple[int, int]
Ring = Sequence[Sequence[float]]

PARTS: dict[str, tuple[str, str, str]] = {
    "response": ("assigned", "on_scene", "from the assignment to the press on scene"),
    "turnout": ("assigned", "en_route", "from the assignment to the press en route"),
    "travel": ("en_route", "on_scene", "from en route to on scene"),
    "scene": ("on_scene", "transporting", "from on scene to transporting"),
    "transport": ("transporting", "at_destination", "from transporting to at destination"),
    "turnaround": ("at_destination", "available", "from at destination to available"),
}
LIVE_WITHIN_MS = 60_000
"""A position that came later than this after it was true was no live picture."""
LIVE_FOR_MS = 75_000
"""For so long a position stands for the picture; units report at least once a minute."""
SIREN = "Ambulance.Siren.IsOn"
_ENDS = frozenset({"available", "in_quarters", "cancelled", "out_of_service"})
_OFF_DUTY = frozenset({"out_of_service"})
ON_DUTY_FOR_MS = 24 * 3_600_000
"""A unit whose last status before the time in question is older than this is not taken to be in service."""
HOUR_MS = 3_600_000
EVIDENCED = {
    "en_route": ("rolling", "the wheels had been rolling"),
    "on_scene": ("standing", "the wheels had stood still"),
    "transporting": ("rolling", "the wheels had been rolling"),
    "at_destination": ("standing", "the wheels had stood still"),
}
"""What the wheels should do when a status is pressed, and what its lateness is."""


@dataclass(slots=True)
class Run:
    """One call of one unit.

    Attributes:
        agency: whose.
        unit: which.
        at_ms: when each status was pressed first, and `assigned` when a call was given.
        incident: of the call; None without one.
        priority: of the call; "none" without one.
        place: latitude and longitude of the call, in degrees.
        sirens: for "travel" and "transport", whether the siren was on; absent where the bus does not tell.
    """

    agency: str
    unit: str
    at_ms: dict[str, int] = field(default_factory=dict)
    incident: str | None = None
    priority: str = "none"
    place: tuple[float, float] | None = None
    sirens: dict[str, bool] = field(default_factory=dict)

    @property
    def start_ms(self) -> int:
        """When it began."""
        return min(self.at_ms.values())

    @property
    def end_ms(self) -> int | None:
        """When the unit was free again; None while it is not."""
        return self.at_ms.get("available")

    def duration_ms(self, part: str) -> int | None:
        """How long a part took; None when one of its ends is missing or they are out of order."""
        first, last, _ = PARTS[part]
        if first not in self.at_ms or last not in self.at_ms or self.at_ms[last] < self.at_ms[first]:
            return None
        return self.at_ms[last] - self.at_ms[first]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number.

    Attributes:
        name: what it is, with its group: "response.median[priority 1]".
        value: None when there is no case.
        unit: of the value.
        cases: how many cases it is of.
        definition: one sentence.
    """

    name: str
    value: float | None
    unit: str
    cases: int
    definition: str


def figures(
    connection: Connection,
    since_ms: int,
    until_ms: int,
    districts: Mapping[str, Sequence[Ring]] | None = None,
    *,
    now_ms: int | None = None,
) -> list[Figure]:
    """All figures of what happened between two times (Unix ms, the later excluded), up to `now_ms`."""
    if now_ms is not None:
        until_ms = max(since_ms, min(until_ms, now_ms))

    def of(kind: Kind, containing: str | None = None) -> Iterator[dict[str, Any]]:
        return queries.all_records(
            connection, since_ms=since_ms, until_ms=until_ms, kinds=(kind,), containing=containing
        )

    statuses = list(of(Kind.STATUS))
    earlier = queries.last_statuses(connection, before_ms=since_ms, since_ms=since_ms - ON_DUTY_FOR_MS)
    calls = [
        one for one in queries.calls(connection, open_only=False) if since_ms <= one["assigned_ms"] < until_ms
    ]
    runs = runs_of(statuses, calls)
    mark_sirens(runs, of(Kind.TELEMETRY, SIREN))
    duty = duty_of([*(one | {"at_ms": since_ms} for one in earlier), *statuses], until_ms)
    found = [*_intervals(runs, districts or {}), *_utilisation(runs, duty, since_ms, until_ms)]
    found.append(_live_picture(connection, duty, since_ms, until_ms))
    found += [*_delays(statuses), *_sirens(runs), *_evidence(statuses)]
    found += _corrections(connection, since_ms, until_ms)
    return found


def runs_of(statuses: Iterable[dict[str, Any]], calls: Iterable[dict[str, Any]]) -> list[Run]:
    """Put presses and assignments together to runs, oldest first."""
    by_unit: dict[tuple[str, str], list[tuple[int, str, dict[str, Any]]]] = defaultdict(list)
    for row in statuses:
        if not row.get("withdrawn"):
            by_unit[row["agency"], row["unit"]].append((*_as_amended(row), row))
    for call in calls:
        by_unit[call["agency"], call["unit"]].append((call["assigned_ms"], "assigned", call))
    runs = []
    for (agency, unit), happened in by_unit.items():
        run: Run | None = None
        for when_ms, what, row in sorted(happened, key=lambda one: one[0]):
            if what == "assigned":
                # Sent elsewhere on the way: the first run ends here without having been free.
                run = _assigned(agency, unit, row)
                runs.append(run)
            elif what in ON_A_RUN and run is None:
                run = Run(agency, unit, incident=row["data"].get("incident"))  # a CAD may assign by itself
                runs.append(run)
            if run is None:
                continue
            if what in _ENDS:
                run.at_ms.setdefault("available", when_ms)
                run = None
            else:
                run.at_ms.setdefault(what, when_ms)
    return sorted(runs, key=lambda one: one.start_ms)


def incidents(connection: Connection, since_ms: int, until_ms: int) -> list[dict[str, Any]]:
    """Incidents whose first step lies between two times, oldest first, with the runs of their units."""
    statuses = queries.records(connection, since_ms=since_ms, until_ms=until_ms, kinds=(Kind.STATUS,))
    calls = [
        one for one in queries.calls(connection, open_only=False) if since_ms <= one["assigned_ms"] < until_ms
    ]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for run in runs_of(statuses, calls):
        if run.incident is not None:
            one = found.setdefault(
                (run.agency, run.incident),
                {
                    "agency": run.agency,
                    "incident": run.incident,
                    "priority": run.priority,
                    "place": run.place,
                    "units": [],
                },
            )
            one["units"].append({"unit": run.unit, "at_ms": run.at_ms})
    return list(found.values())


def _assigned(agency: str, unit: str, call: dict[str, Any]) -> Run:
    fields = call["fields"]
    run = Run(agency, unit, incident=call["incident"], priority=str(fields.get("priority") or "none"))
    if fields.get("lat_deg") is not None and fields.get("lon_deg") is not None:
        run.place = fields["lat_deg"], fields["lon_deg"]
    return run


def duty_of(statuses: Iterable[dict[str, Any]], until_ms: int) -> dict[tuple[str, str], list[Interval]]:
    """When each unit was in service: from its first status, without what it was out of service."""
    duty: dict[tuple[str, str], list[Interval]] = defaultdict(list)
    since: dict[tuple[str, str], int] = {}
    for row in statuses:
        if row.get("withdrawn"):
            continue
        unit = row["agency"], row["unit"]
        when_ms, status = _as_amended(row)
        if status not in _OFF_DUTY:
            since.setdefault(unit, when_ms)
        elif unit in since:
            duty[unit].append((since.pop(unit), when_ms))
    for unit, start_ms in since.items():
        duty[unit].append((start_ms, until_ms))
    return duty


def mark_sirens(runs: Iterable[Run], telemetry: Iterable[dict[str, Any]]) -> None:
    """Note on which legs the siren was on."""
    changes: dict[tuple[str, str], list[tuple[int, bool]]] = defaultdict(list)
    for row in telemetry:
        value = row["data"].get("signals", {}).get(SIREN)
        if isinstance(value, bool):
            changes[row["agency"], row["unit"]].append((row["at_ms"], value))
    for run in runs:
        told = changes.get((run.agency, run.unit))
        for part in ("travel", "transport"):
            if told and run.duration_ms(part) is not None:
                first, last, _ = PARTS[part]
                start_ms, end_ms = run.at_ms[first], run.at_ms[last]
                before = [value for at_ms, value in told if at_ms <= start_ms][-1:]
                during = [value for at_ms, value in told if start_ms < at_ms < end_ms]
                run.sirens[part] = any(before + during)


def quantile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank quantile; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]


def district_of(place: tuple[float, float] | None, districts: Mapping[str, Sequence[Ring]]) -> str | None:
    """The district that holds a place (latitude, longitude); None outside of all."""
    if place is None:
        return None
    lat, lon = place
    return next(
        (name for name, rings in districts.items() if sum(_inside(lat, lon, one) for one in rings) % 2), None
    )


def read_districts(file: Path, name: str = "name") -> dict[str, list[Ring]]:
    """Rings of each district of a GeoJSON file, by the property `name`. Raises OSError or ValueError."""
    found: dict[str, list[Ring]] = {}
    try:
        for feature in json.loads(file.read_text(encoding="utf-8"))["features"]:
            properties = {str(key).lower(): value for key, value in feature["properties"].items()}
            geometry = feature["geometry"]
            shapes = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
            found.setdefault(str(properties[name.lower()]), []).extend(
                ring for shape in shapes for ring in shape
            )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: not districts with a property {name!r}: {error}") from error
    return found


def as_csv(found: Iterable[Figure]) -> str:
    """The figures as a table for a spreadsheet."""
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(("figure", "value", "unit", "cases", "definition"))
    for one in found:
        value = "" if one.value is None else f"{one.value:.6g}"
        table.writerow((one.name, value, one.unit, one.cases, one.definition))
    return out.getvalue()


def _as_amended(row: dict[str, Any]) -> tuple[int, str]:
    """Time and status of a press, as they were amended last."""
    when_ms, status = row["at_ms"], str(row["data"].get("status"))
    for one in row.get("amendments", ()):
        if one["field"] == "status" and one["value"]:
            status = one["value"]
        elif one["field"] == "utc" and one["value"]:
            try:
                when_ms = unix_ms(one["value"])
            except ValueError:
                continue
    return when_ms, status


def _intervals(runs: Sequence[Run], districts: Mapping[str, Sequence[Ring]]) -> Iterable[Figure]:
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run in runs:
        labels = ["all", f"priority {run.priority}"]
        if "assigned" in run.at_ms:
            labels.append(f"hour {datetime.fromtimestamp(run.at_ms['assigned'] / 1000, UTC):%H}")
        district = district_of(run.place, districts)
        if district is not None:
            labels.append(f"district {district}")
        for part in PARTS:
            duration_ms = run.duration_ms(part)
            if duration_ms is not None:
                for label in labels if part == "response" else labels[:2]:
                    groups[part, label].append(duration_ms / 1000)
    for (part, label), seconds in sorted(groups.items()):
        definition = f"{PARTS[part][2]}, by the crews' presses"
        if label.startswith("hour"):
            definition += "; of assignments in this hour of the day, UTC"
        for word, share in (("median", 0.5), ("p90", 0.9)):
            name = f"{part}.{word}[{label}]"
            yield Figure(name, quantile(seconds, share), "s", len(seconds), f"{definition}; nearest rank")


def _utilisation(
    runs: Sequence[Run], duty: Mapping[tuple[str, str], Sequence[Interval]], since_ms: int, until_ms: int
) -> Iterable[Figure]:
    on_runs: list[Interval] = []
    in_service: list[Interval] = []
    for unit, spans in duty.items():
        own = [one for one in runs if (one.agency, one.unit) == unit]
        busy = merged([(one.start_ms, until_ms if one.end_ms is None else one.end_ms) for one in own])
        in_service += spans
        on_runs += [
            (max(a[0], b[0]), min(a[1], b[1]))
            for a in busy
            for b in spans
            if max(a[0], b[0]) < min(a[1], b[1])
        ]
    service_ms = sum(end - start for start, end in in_service)
    share = sum(end - start for start, end in on_runs) / service_ms if service_ms else None
    text = (
        "time on runs over time in service: from the first status on, without out of service; a unit that "
        "was in service within the 24 h before counts from the beginning"
    )
    yield Figure("unit_hour_utilisation", share, "share", len(runs), text)
    yield Figure("in_service", service_ms / HOUR_MS, "h", len(duty), "time in service of all units together")
    by_hour: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for hour_ms in range(since_ms - since_ms % HOUR_MS, until_ms, HOUR_MS):
        hour = [(hour_ms, hour_ms + HOUR_MS)]
        counted = by_hour[hour_ms // HOUR_MS % 24]
        counted[0] += overlap_ms(on_runs, hour)
        counted[1] += overlap_ms(in_service, hour)
    for number, (busy_ms, there_ms) in sorted(by_hour.items()):
        if there_ms:
            name = f"unit_hour_utilisation[hour {number:02}]"
            yield Figure(
                name, busy_ms / there_ms, "share", len(runs), "the same within one hour of the day, UTC"
            )


def _live_picture(
    connection: Connection, duty: Mapping[tuple[str, str], Sequence[Interval]], since_ms: int, until_ms: int
) -> Figure:
    """From the two times of each position alone, so that a day of a city is no load."""
    covered: dict[tuple[str, str], list[Interval]] = defaultdict(list)
    rows = connection.query(
        "SELECT units.agency, units.unit, at_ms, received_ms FROM records "
        "JOIN units ON units.unit_id = records.unit_id "
        "WHERE kind = 4 AND at_ms >= :since AND at_ms < :until AND received_ms - at_ms <= :within "
        "ORDER BY at_ms",
        {"since": since_ms - LIVE_FOR_MS, "until": until_ms, "within": LIVE_WITHIN_MS},
    )
    for agency, unit, at_ms, _received_ms in rows:
        covered[agency, unit].append((at_ms, at_ms + LIVE_FOR_MS))
    total_ms = sum(end - start for spans in duty.values() for start, end in spans)
    live_ms = sum(overlap_ms(merged(covered[unit]), spans) for unit, spans in duty.items())
    text = (
        f"share of time in service with a position not older than {LIVE_FOR_MS // 1000} s that came within "
        f"{LIVE_WITHIN_MS // 1000} s; a parked vehicle that reports rarely counts as not live; target 0.999"
    )
    return Figure("live_picture", live_ms / total_ms if total_ms else None, "share", len(rows), text)


def _delays(statuses: Sequence[dict[str, Any]]) -> Iterable[Figure]:
    known = [row for row in statuses if row["utc_ms"] is not None and row["utc_source"] in ("gnss", "ntp")]
    delays = [(row["received_ms"] - row["utc_ms"]) / 1000 for row in known]
    for word, share in (("median", 0.5), ("p90", 0.9), ("p99", 0.99)):
        text = (
            "from the press, by the vehicle's clock, to the receipt's commit, by dispatch's; outages included"
        )
        yield Figure(f"press_to_receipt.{word}", quantile(delays, share), "s", len(delays), text)


def _sirens(runs: Sequence[Run]) -> Iterable[Figure]:
    for part, what in (("travel", "responses"), ("transport", "transports")):
        told = [run.sirens[part] for run in runs if part in run.sirens]
        share = sum(told) / len(told) if told else None
        text = f"share of {what} with the siren on at any moment, of those whose vehicle tells it"
        yield Figure(f"siren.{what}", share, "share", len(told), text)


def _evidence(statuses: Sequence[dict[str, Any]]) -> Iterable[Figure]:
    """How late crews press, by the vehicle's own word; and how often it says something else."""
    late: dict[str, list[float]] = defaultdict(list)
    contradicted = told = 0
    for row in statuses:
        evidence = row["data"].get("evidence")
        if row.get("withdrawn") or evidence is None:
            continue
        told += 1
        contradicted += bool(evidence.get("contradictions"))
        status = row["data"].get("status")
        wanted = EVIDENCED.get(status)
        if wanted and evidence.get("motion") == wanted[0] and evidence.get("motion_for_ms") is not None:
            late[status].append(evidence["motion_for_ms"] / 1000)
    for status, (_, words) in EVIDENCED.items():
        for word, share in (("median", 0.5), ("p90", 0.9)):
            text = f"for how long {words} when {status.replace('_', ' ')} was pressed; nearest rank"
            yield Figure(
                f"pressed_after.{word}[{status}]", quantile(late[status], share), "s", len(late[status]), text
            )
    text = "share of presses that the vehicle's own evidence contradicts, of those that carry evidence"
    yield Figure("presses_contradicted", contradicted / told if told else None, "share", told, text)


def _corrections(connection: Connection, since_ms: int, until_ms: int) -> Iterable[Figure]:
    counted: dict[str, int] = defaultdict(int)
    kinds = (Kind.WITHDRAWAL, Kind.AMENDMENT)
    for row in queries.all_records(connection, since_ms=since_ms, until_ms=until_ms, kinds=kinds):
        counted[row["kind"]] += 1
    for kind in ("withdrawal", "amendment"):
        text = f"{kind} records of the crews and of dispatch"
        yield Figure(f"{kind}s", float(counted[kind]), "records", counted[kind], text)


def merged(spans: Sequence[Interval]) -> list[Interval]:
    """Intervals without overlaps, ascending."""
    found: list[Interval] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def overlap_ms(one: Sequence[Interval], other: Sequence[Interval]) -> int:
    """How long both hold; each without overlaps in itself."""
    return sum(max(0, min(a[1], b[1]) - max(a[0], b[0])) for a in one for b in other)


def _inside(lat: float, lon: float, ring: Ring) -> bool:
    """Whether a ray to the east crosses the ring an odd number of times."""
    inside = False
    for (lon_a, lat_a, *_), (lon_b, lat_b, *_) in zip(ring, [*ring[1:], ring[0]], strict=True):
        if (lat_a > lat) != (lat_b > lat) and lon < (lon_b - lon_a) * (lat - lat_a) / (lat_b - lat_a) + lon_a:
            inside = not inside
    return inside
