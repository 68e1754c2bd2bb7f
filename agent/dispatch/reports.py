"""`mdt-dispatch check`, `stats` and `export`: for administrators and analysts, beside a running service."""

from __future__ import annotations

import csv
import json
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TextIO

from agent.dispatch import queries, vital
from agent.dispatch.settings import DispatchFile
from agent.dispatch.store.engine import Connection, StoreError, engine_of
from agent.domain.record import Kind
from agent.runtime.plain_text import told
from agent.wire.time_text import utc_text

DAY_MS = 86_400_000
_PAGE_MS = 3_600_000
"""Exports read an hour at a time: a day of positions does not have to fit into the memory."""
_TIMEOUT_S = 10

NEMSIS = {
    "dispatched": "eTimes.03",
    "assigned": "eTimes.03",
    "acknowledged": "eTimes.04",
    "en_route": "eTimes.05",
    "on_scene": "eTimes.06",
    "at_patient": "eTimes.07",
    "transporting": "eTimes.09",
    "at_destination": "eTimes.11",
    "transfer_of_care": "eTimes.12",
    "available": "eTimes.13",
    "cancelled": "eTimes.14",
    "in_quarters": "eTimes.15",
    "staged": "eTimes.17",
}
"""NEMSIS v3.5 time element of each status; an assignment is the notification where no press is."""

What = Literal["events", "positions", "calls", "times"]
Check = tuple[str, bool | None, str]
Span = tuple[int, int]
"""Two times in Unix ms, the later one excluded."""


def check(settings: DispatchFile, out: TextIO) -> bool:
    """Print a line each: good, bad or unknown; returns whether nothing is bad."""
    checks = [*_check_store(settings), *_check_broker(settings), *_check_files(settings)]
    words = {True: "good", False: "BAD", None: "?"}
    out.writelines(f"{words[good]:5} {name:9} {text}\n" for name, good, text in checks)
    return all(good is not False for _, good, _ in checks)


def stats(
    settings: DispatchFile,
    span: Span,
    form: str,
    out: TextIO,
    *,
    districts: Path | None = None,
    now_ms: int | None = None,
) -> None:
    """Print the vital statistics of a time. Raises StoreError, OSError or ValueError."""
    file = districts or settings.districts
    shapes = None if file is None else vital.read_districts(file)
    found = _ask(settings, lambda connection: vital.figures(connection, *span, shapes, now_ms=now_ms))
    if form == "json":
        json.dump([asdict(one) for one in found], out, indent=1)
        out.write("\n")
    elif form == "csv":
        out.write(vital.as_csv(found))
    else:
        out.write(f"{utc_text(span[0])[:16]} to {utc_text(span[1])[:16]} UTC\n")
        for one in found:
            value = "-" if one.value is None else f"{one.value:.4g}"
            out.write(f"{one.name:40} {value:>10} {one.unit:8} of {one.cases:<6} {one.definition}\n")


def export(settings: DispatchFile, what: What, span: Span, form: str, out: TextIO) -> int:
    """Print rows of a time; returns how many. Raises StoreError, or ValueError for what has no such form."""
    if form == "geojson" and what not in ("positions", "events"):
        raise ValueError(f"{what} have no place: take --format csv")
    rows = _rows(settings, what, *span)
    return _write_geojson(rows, out) if form == "geojson" else _write_csv(rows, out)


def times_of(connection: Connection, since_ms: int, until_ms: int) -> Iterator[dict[str, Any]]:
    """The NEMSIS times of every run that began between two times; what was not pressed is empty."""
    statuses = queries.records(
        connection, since_ms=since_ms, until_ms=until_ms + DAY_MS, kinds=(Kind.STATUS,)
    )
    calls = [one for one in queries.calls(connection, open_only=False) if one["assigned_ms"] >= since_ms]
    elements = sorted(set(NEMSIS.values()))
    for run in vital.runs_of(statuses, calls):
        if not since_ms <= run.start_ms < until_ms:
            continue
        row: dict[str, Any] = {"agency": run.agency, "unit": run.unit, "incident": run.incident or ""}
        row |= dict.fromkeys(elements, "")
        for status in sorted(
            run.at_ms, key=lambda one: one == "dispatched"
        ):  # the crew's own word comes last
            if status in NEMSIS:
                row[NEMSIS[status]] = utc_text(run.at_ms[status] // 1000 * 1000).replace(".000", "")
        yield row


def span_of(since: str | None, until: str | None, now_ms: int) -> tuple[int, int]:
    """Two times from an ISO date or time each; yesterday by default. Raises ValueError."""
    today = datetime.fromtimestamp(now_ms / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = today - timedelta(days=1) if since is None else _moment(since)
    end = start + timedelta(days=1) if until is None else _moment(until)
    if end <= start:
        raise ValueError(f"{until} is not after {start.isoformat()}")
    return round(start.timestamp() * 1000), round(end.timestamp() * 1000)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _ask(settings: DispatchFile, query: Callable[[Connection], Any]) -> Any:
    reading = queries.Reading(engine_of(settings.store))
    try:
        return reading.ask(query)
    finally:
        reading.close()


def _check_store(settings: DispatchFile) -> Iterator[Check]:
    try:
        sizes = _ask(settings, queries.sizes)
    except StoreError as error:
        missing = "no such store" in str(error)
        yield "store", None if missing else False, f"{error}" + ("; `run` makes it" if missing else "")
        return
    yield (
        "store",
        True,
        f"{sizes['records']} records of {sizes['units']} units in {engine_of(settings.store).where}",
    )
    missing_text = f"{sizes['missing']} records are missing and asked for"
    yield "holes", sizes["missing"] == 0 or None, missing_text if sizes["missing"] else "no record is missing"
    for one in sizes["refused_by_unit"][:5]:
        who = f"{one['agency']}/{one['unit']}" if one["unit"] else "topics that are none of ours"
        yield "refused", None, f"{one['refused']} messages of {who}; the last: {one['last_reason']}"


def _check_broker(settings: DispatchFile) -> Iterator[Check]:
    """The way there, without a session: one under our name would throw the running service off."""
    broker = settings.broker
    where = f"{broker.host}:{broker.port}"
    try:
        with socket.create_connection((broker.host, broker.port), _TIMEOUT_S) as plain:
            if broker.tls is None:
                yield "broker", True, f"{where} takes connections, WITHOUT encryption"
                return
            context = ssl.create_default_context(cafile=broker.tls.ca_file)
            if broker.tls.certificate_file is not None:
                context.load_cert_chain(broker.tls.certificate_file, broker.tls.key_file)
            with context.wrap_socket(plain, server_hostname=broker.host) as secure:
                ends = (secure.getpeercert() or {}).get("notAfter", "an unknown day")
                yield "broker", True, f"{where}: {secure.version()}, its certificate is good until {ends}"
    except (OSError, ValueError) as error:
        yield "broker", False, f"{where}: {told(error)}"


def _check_files(settings: DispatchFile) -> Iterator[Check]:
    if settings.streets is not None:
        there = settings.streets.is_file()
        yield (
            "streets",
            there,
            f"{settings.streets}" + ("" if there else " is not there: the map is a plain grid"),
        )
    listen = settings.listen
    if listen.certificate_file is not None and listen.key_file is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                listen.certificate_file, listen.key_file
            )
        except (OSError, ValueError) as error:
            yield "page", False, f"{listen.certificate_file}: {told(error)}"
        else:
            yield "page", True, f"https on {listen.host}:{listen.port}"
    else:
        yield "page", True, f"http on {listen.host}:{listen.port}, this computer only"
    roles = ", ".join(f"{token.name} ({token.role})" for token in settings.tokens)
    yield (
        "tokens",
        None if not roles else True,
        roles or "none: `run` makes one for this computer at each start",
    )


def _rows(settings: DispatchFile, what: What, since_ms: int, until_ms: int) -> Iterator[dict[str, Any]]:
    reading = queries.Reading(engine_of(settings.store))
    try:
        with reading.connection() as connection:
            if what == "calls":
                for call in reversed(queries.calls(connection, open_only=False, since_ms=since_ms)):
                    if call["assigned_ms"] < until_ms:
                        yield _flat(call, "fields")
            elif what == "times":
                yield from times_of(connection, since_ms, until_ms)
            else:
                for start_ms in range(since_ms, until_ms, _PAGE_MS):
                    end_ms = min(until_ms, start_ms + _PAGE_MS)
                    for row in _page(connection, what, start_ms, end_ms):
                        yield _flat(row, "data")
    finally:
        reading.close()


def _page(connection: Connection, what: What, since_ms: int, until_ms: int) -> list[dict[str, Any]]:
    """All rows of a span, however many: one that is cut short is halved."""
    if what == "positions":
        rows = queries.records(connection, since_ms=since_ms, until_ms=until_ms, kinds=(Kind.POSITION,))
    else:
        rows = queries.rare_records(connection, since_ms=since_ms, until_ms=until_ms)
    if len(rows) < queries.MOST_ROWS or until_ms - since_ms <= 1:
        return rows
    middle_ms = (since_ms + until_ms) // 2
    return _page(connection, what, since_ms, middle_ms) + _page(connection, what, middle_ms, until_ms)


def _flat(row: dict[str, Any], inner: str) -> dict[str, Any]:
    """One level, times as text beside their numbers."""
    data = row.pop(inner)
    if "at_ms" in row:
        row = {"at": utc_text(row["at_ms"]), **row}
    return row | {
        name: json.dumps(value) if isinstance(value, dict | list) else value for name, value in data.items()
    }


def _write_csv(rows: Iterable[dict[str, Any]], out: TextIO) -> int:
    """Kinds have different columns: they are collected first, in the order in which they appear."""
    kept = list(rows)
    columns: dict[str, None] = {}
    for row in kept:
        columns |= dict.fromkeys(row)
    if not kept:
        return 0
    table = csv.DictWriter(out, list(columns), restval="", lineterminator="\n")
    table.writeheader()
    table.writerows({name: _harmless_cell(value) for name, value in row.items()} for row in kept)
    return len(kept)


def _harmless_cell(value: Any) -> Any:
    """A spreadsheet takes text that begins so for a formula; a vehicle's text is none."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _write_geojson(rows: Iterable[dict[str, Any]], out: TextIO) -> int:
    out.write('{"type":"FeatureCollection","features":[')
    count = 0
    for row in rows:
        lat, lon = row.pop("lat_deg", None), row.pop("lon_deg", None)
        geometry = None if lat is None else {"type": "Point", "coordinates": [lon, lat]}
        feature = {"type": "Feature", "geometry": geometry, "properties": row}
        out.write(("," if count else "") + "\n" + json.dumps(feature))
        count += 1
    out.write("\n]}\n")
    return count
