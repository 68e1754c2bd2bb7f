"""python -m hil import: make one recording from logs of other tools."""

from __future__ import annotations

import argparse
import heapq
import sys
from collections.abc import Iterator
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

from agent.config import ConfigError
from hil.drive.items import ButtonItem, TimedItem
from hil.recording.importers import NS, Imported, import_can, import_nmea, import_presses
from hil.recording.mcap_file import RecordingWriter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the recording to write (.mcap)"
    )
    parser.add_argument("--nmea", type=Path, action="append", default=[], metavar="LOG", help="NMEA text")
    parser.add_argument(
        "--can",
        action="append",
        default=[],
        metavar="[BUS=]LOG",
        help="candump .log, .asc, .blf, .trc or .mf4; BUS names all of its frames",
    )
    parser.add_argument(
        "--presses", type=Path, action="append", default=[], metavar="LIST", help="press list, .toml or .csv"
    )
    parser.add_argument(
        "--align",
        choices=("start", "utc"),
        default="start",
        help="lay the logs' beginnings on each other, or their UTC times (default start)",
    )
    parser.add_argument("--unit", default="", help="unit to write into the recording")
    parser.add_argument("--force", action="store_true", help="overwrite FILE")


def run(args: argparse.Namespace) -> int:
    """Run the command; 0 when the recording was written."""
    try:
        logs = [import_nmea(path) for path in args.nmea]
        logs += [_can(spec) for spec in args.can]
        timed = len(logs)
        logs += [import_presses(path) for path in args.presses]
        if not logs:
            print("import: give at least one of --nmea, --can and --presses", file=sys.stderr)
            return 2
        offsets_ns = _offsets_ns(logs, timed, align=args.align)
        if args.force:
            args.out.unlink(missing_ok=True)
        moved = [_moved(log.items, offset) for log, offset in zip(logs, offsets_ns, strict=True)]
        count = _write(args, heapq.merge(*moved, key=attrgetter("t_ns")))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 78
    except FileExistsError:
        print(f"import: {args.out} is there already; --force overwrites it", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"import: {error}", file=sys.stderr)
        return 1
    print(f"{args.out}: {count} items")
    return 0


def _can(spec: str) -> Imported:
    bus, equals, path = spec.partition("=")
    return import_can(Path(path), bus) if equals and "/" not in bus else import_can(Path(spec))


def _offsets_ns(logs: list[Imported], timed: int, *, align: str) -> list[int]:
    """How much later than the recording each log begins."""
    if align == "start":
        return [0] * len(logs)
    starts_s = [log.start_utc_s for log in logs[:timed]]
    known_s = [start_s for start_s in starts_s if start_s is not None]
    if len(known_s) < len(starts_s) or not known_s:
        raise ValueError("--align utc: not every log tells its UTC")
    earliest_s = min(known_s)
    # Press lists count from the beginning of the recording.
    return [round((start_s - earliest_s) * NS) for start_s in known_s] + [0] * (len(logs) - timed)


def _moved(items: Iterator[TimedItem], offset_ns: int) -> Iterator[TimedItem]:
    if offset_ns == 0:
        yield from items
        return
    for item in items:
        if isinstance(item, ButtonItem):
            yield replace(item, t_ns=item.t_ns + offset_ns, at_ns=item.at_ns + offset_ns)
        else:
            yield replace(item, t_ns=item.t_ns + offset_ns)


def _write(args: argparse.Namespace, items: Iterator[TimedItem]) -> int:
    sources = ", ".join(str(Path(str(source)).name) for source in (*args.nmea, *args.can, *args.presses))
    metadata = {"made_by": "hil import", "sources": sources, "unit": args.unit}
    count = 0
    with RecordingWriter(args.out, metadata) as writer:
        for item in items:
            writer.write(item)
            count += 1
    return count
