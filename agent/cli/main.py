"""The mdt command: arguments in, exit codes out. Each sub-command loads only what it needs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.cli.terminal import at_the_edge

DEFAULT_CONFIG = Path("/etc/mdt/agent.toml")
_EPILOG = """\
examples:
  mdt check-config config/agent.toml      is this configuration good?
  mdt run --config config/agent.toml      run the agent (systemd does this in the vehicle)
  mdt status                              what the running agent thinks
  mdt watch --broker mqtt://localhost     what dispatch sees
  mdt decode nmea drive.nmea              fixes of a recorded receiver, one JSON line each
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code."""
    args = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = args.run
    return at_the_edge(lambda: run(args), draws=run is _watch)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mdt",
        description="The ambulance's telematics agent: tells dispatch where the unit is and what it does.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    sub = commands.add_parser("run", help="run the agent until it is told to stop")
    _config_option(sub)
    sub.set_defaults(run=_run)

    sub = commands.add_parser(
        "check-config", help="validate a configuration file, telling all errors at once"
    )
    sub.add_argument("file", type=Path, metavar="FILE")
    sub.set_defaults(run=_check_config)

    sub = commands.add_parser("status", help="what the running agent thinks")
    _socket_options(sub)
    sub.set_defaults(run=_status)

    sub = commands.add_parser("outbox", help="what is stored and not yet delivered")
    _socket_options(sub)
    sub.set_defaults(run=_outbox)

    sub = commands.add_parser("watch", help="what dispatch sees, live")
    sub.add_argument(
        "--broker", required=True, metavar="URL", help="mqtt://[user@]host[:port] or mqtts://..."
    )
    sub.add_argument("--agency", help="only this agency")
    sub.add_argument("--unit", help="only this unit")
    sub.add_argument("--json", action="store_true", help="one JSON line a record")
    sub.add_argument("--ca-file", type=Path, help="authority to trust for mqtts://")
    sub.add_argument("--password-file", type=Path, help="password of the broker (or MDT_BROKER_PASSWORD)")
    sub.set_defaults(run=_watch)

    sub = commands.add_parser("record", help="write everything the drivers read to one file (agent stopped)")
    _config_option(sub)
    sub.add_argument("--out", required=True, type=Path, metavar="FILE", help="MCAP file to make")
    sub.add_argument("--for", dest="for_s", type=_seconds, metavar="SECONDS", help="stop after this long")
    sub.set_defaults(run=_record)

    decode = commands.add_parser("decode", help="decode a recorded feed").add_subparsers(
        metavar="FEED", required=True
    )
    sub = decode.add_parser("nmea", help="fixes of an NMEA log, one JSON line each")
    sub.add_argument("file", metavar="FILE", help="NMEA text; - for standard input")
    sub.set_defaults(run=_decode_nmea)
    sub = decode.add_parser("can", help="changed vehicle signals of a CAN log, one JSON line each")
    sub.add_argument("file", type=Path, metavar="FILE", help="candump, .asc, .blf, .trc or .mf4")
    sub.add_argument("--vehicle", required=True, type=Path, metavar="TOML", help="the vehicle file")
    sub.add_argument("--dbc", type=Path, metavar="FILE", help="DBC to use instead of the vehicle file's")
    sub.add_argument("--bus", metavar="NAME", help="only frames of this bus of the log")
    sub.set_defaults(run=_decode_can)
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return value


def _config_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help=f"configuration file (default: {DEFAULT_CONFIG})",
    )


def _socket_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--config", type=Path, metavar="FILE", help=f"configuration of the daemon (default: {DEFAULT_CONFIG})"
    )
    sub.add_argument(
        "--socket", type=Path, metavar="PATH", help="the daemon's socket, instead of the configuration's"
    )
    sub.add_argument("--json", action="store_true", help="print JSON")


def _run(args: argparse.Namespace) -> int:
    from agent.runtime.spared_library import without_plugins

    with without_plugins():  # pydantic's
        from agent.cli.run import run

    return run(args.config)


def _check_config(args: argparse.Namespace) -> int:
    from agent.cli.check_config import check_config

    return check_config(args.file, sys.stdout, sys.stderr)


def _status(args: argparse.Namespace) -> int:
    from agent.cli.daemon_reports import status

    return status(args.socket, args.config or DEFAULT_CONFIG, as_json=args.json)


def _outbox(args: argparse.Namespace) -> int:
    from agent.cli.daemon_reports import outbox

    return outbox(args.socket, args.config or DEFAULT_CONFIG, as_json=args.json)


def _watch(args: argparse.Namespace) -> int:
    from agent.cli.watch import watch

    return watch(
        args.broker,
        agency=args.agency,
        unit=args.unit,
        json_lines=args.json,
        ca_file=args.ca_file,
        password_file=args.password_file,
        out=sys.stdout,
    )


def _record(args: argparse.Namespace) -> int:
    from agent.cli.record import record

    return record(args.config, args.out, args.for_s)


def _decode_nmea(args: argparse.Namespace) -> int:
    from agent.cli.decode_nmea import decode_nmea

    return decode_nmea(args.file, sys.stdout, sys.stderr)


def _decode_can(args: argparse.Namespace) -> int:
    from agent.cli.decode_can import decode_can

    return decode_can(args.file, args.vehicle, sys.stdout, sys.stderr, dbc=args.dbc, bus=args.bus)
