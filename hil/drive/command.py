"""python -m hil drive: simulate a shift and write it as a recording."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from agent.config import ConfigError
from hil.drive.drive_file import drive_names
from hil.drive.items import Drive, TimedItem
from hil.drive.nmea_drive import nmea_drive
from hil.drive.planner import plan_call
from hil.drive.route import GeoPoint
from hil.drive.shift import Options, load_shift
from hil.drive.street_map import NoWayError, StreetMap
from hil.recording.mcap_file import RecordingWriter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "scenario",
        nargs="?",
        metavar="SCENARIO",
        help=f"a shipped drive ({', '.join(drive_names())}), a drive file (.toml) or a log (.nmea)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the recording to write (.mcap)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="same seed, same bytes (default 1)")
    parser.add_argument(
        "--can-scale", type=float, default=1.0, metavar="F", help="send only this part of the CAN frames"
    )
    parser.add_argument("--force", action="store_true", help="overwrite FILE")
    plan = parser.add_argument_group("planning a new drive")
    plan.add_argument(
        "--plan",
        nargs="+",
        type=_place,
        metavar="LAT,LON",
        help="print the streets of a call: post, scene, hospital and, if wanted, the post again",
    )
    plan.add_argument(
        "--streets", nargs="+", type=Path, metavar="FILE", help="GeoJSON street files to plan along"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; 0 when the recording was written."""
    try:
        if args.plan:
            return _plan(args)
        if args.scenario is None or args.out is None:
            print("drive: give a SCENARIO and --out FILE", file=sys.stderr)
            return 2
        return _record(args)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 78
    except FileExistsError:
        print(f"drive: {args.out} is there already; --force overwrites it", file=sys.stderr)
        return 1
    except (OSError, ValueError, NoWayError) as error:
        print(f"drive: {error}", file=sys.stderr)
        return 1


def _record(args: argparse.Namespace) -> int:
    drive: Drive
    if args.scenario.endswith(".nmea"):
        drive = nmea_drive(Path(args.scenario))
    else:
        drive = load_shift(args.scenario, args.seed, Options(can_hz_scale=args.can_scale))
    metadata = {
        "scenario": Path(args.scenario).stem,
        "title": drive.name,
        "seed": str(args.seed),
        "start_utc_ms": str(drive.start_utc_ms),
        "made_by": "hil drive",
    }
    if args.force:
        args.out.unlink(missing_ok=True)
    counts: Counter[str] = Counter()
    with RecordingWriter(args.out, metadata) as writer:
        writer.write_all(_counted(drive.items(), counts))
    told = ", ".join(f"{count} {name.removesuffix('Item').lower()}" for name, count in sorted(counts.items()))
    print(f"{args.out}: {drive.name}, {drive.duration_s:.0f} s: {told}")
    return 0


def _counted(items: Iterator[TimedItem], counts: Counter[str]) -> Iterator[TimedItem]:
    for item in items:
        counts[type(item).__name__] += 1
        yield item


def _plan(args: argparse.Namespace) -> int:
    if not args.streets or len(args.plan) not in (3, 4):
        print("drive: --plan needs three or four places and --streets FILE", file=sys.stderr)
        return 2
    print(plan_call(StreetMap.load(*args.streets), "", args.plan))
    return 0


def _place(text: str) -> GeoPoint:
    lat, lon = text.split(",")
    return float(lat), float(lon)
