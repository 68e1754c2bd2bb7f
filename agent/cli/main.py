"""The mdt command: arguments in, exit codes out. Each sub-command loads only what it needs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent import __version__
from agent.cli.terminal import at_the_edge

DEFAULT_CONFIG = Path("/etc/mdt/agent.toml")
_EPILOG = """\
examples:
  mdt check-config config/agent.toml      is this configuration good?
  mdt run --config config/agent.toml      run the agent (systemd does this in the vehicle)
  mdt doctor                              is the vehicle fitted right, and what is to be mended?
  mdt status                              what the running agent thinks
  mdt ready                               is the unit ready for its shift?
  mdt buttons                             which key arrives as what, live
  mdt sky --live                          which satellites are heard, and why there is no fix
  mdt times                               when the unit did what, run by run
  mdt service done oil                    a service was done: its counters begin anew
  mdt watch --broker mqtt://localhost     what dispatch sees
  mdt bus drive.log --vehicle van.toml    which identifiers a log has, and which known signals
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
    parser.add_argument("--version", action="version", version=f"mdt {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    sub = commands.add_parser("run", help="run the agent until it is told to stop")
    _config_option(sub)
    sub.set_defaults(run=_run)

    sub = commands.add_parser(
        "check-config", help="validate a configuration file, telling all errors at once"
    )
    sub.add_argument("file", type=Path, metavar="FILE")
    sub.set_defaults(run=_check_config)

    for name, run, purpose in (
        ("status", _status, "what the running agent thinks"),
        ("outbox", _outbox, "what is stored and not yet delivered"),
    ):
        sub = commands.add_parser(name, help=purpose)
        _socket_options(sub)
        sub.set_defaults(run=run)

    sub = commands.add_parser("ready", help="is the unit ready for its shift?")
    _socket_options(sub)
    sub.set_defaults(run=_ready)

    sub = commands.add_parser("times", help="times and legs of the unit's runs")
    _socket_options(sub)
    sub.add_argument("--nemsis", action="store_true", help="elements as NEMSIS v3.5 names them")
    sub.set_defaults(run=_times)

    sub = commands.add_parser("service", help="what passed since each service; `done NAME`: it was done")
    sub.add_argument("words", nargs="*", metavar="done NAME", help="which service was done")
    _socket_options(sub)
    sub.set_defaults(run=_service)

    sub = commands.add_parser("sky", help="satellites, signal, antenna, and why there is no fix")
    _socket_options(sub)
    sub.add_argument("--live", action="store_true", help="again every second, until Ctrl-C")
    sub.set_defaults(run=_sky)

    _buttons_options(commands.add_parser("buttons", help="which key arrives as what, and each lamp in turn"))

    _watch_options(commands.add_parser("watch", help="what dispatch sees, live"))

    sub = commands.add_parser("record", help="write everything the drivers read to one file (agent stopped)")
    _config_option(sub)
    sub.add_argument("--out", required=True, type=Path, metavar="FILE", help="MCAP file to make")
    sub.add_argument("--for", dest="for_s", type=_seconds, metavar="SECONDS", help="stop after this long")
    sub.set_defaults(run=_record)

    _technicians_commands(commands)
    _accuracy_command(commands)

    sub = commands.add_parser(
        "install-keys", help="unpack the bundle of keys that dispatch made for this vehicle"
    )
    sub.add_argument("bundle", type=Path, metavar="FILE", help="made by `mdt-pki unit`")
    sub.add_argument(
        "--folder", type=Path, default=DEFAULT_CONFIG.parent, help="where to (default: /etc/mdt)"
    )
    sub.set_defaults(run=_install_keys)

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


def _accuracy_command(commands: Any) -> None:
    sub = commands.add_parser("accuracy", help="how far a receiver's log is from a surveyed truth")
    sub.add_argument("log", help="log of NMEA or UBX")
    sub.add_argument(
        "truth",
        help="LAT,LON of a surveyed point (after -- if it begins with a minus), or a better receiver's log",
    )
    sub.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    sub.set_defaults(run=_accuracy)


def _technicians_commands(commands: Any) -> None:
    """Declare what a technician at the vehicle needs."""
    sub = commands.add_parser("diag", help="the whole picture; a bundle of it for whoever helps from afar")
    _socket_options(sub)
    sub.add_argument(
        "--bundle", type=Path, metavar="FILE", help="write configuration, state and log, without secrets"
    )
    sub.set_defaults(run=_diag)

    sub = commands.add_parser(
        "doctor", help="look at everything and tell what to do: devices, bus, broker, clock, disk, service"
    )
    _config_option(sub)
    sub.add_argument(
        "--socket", type=Path, metavar="PATH", help="the daemon's socket, instead of the configuration's"
    )
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.add_argument(
        "--record", type=Path, metavar="FILE", help="write the acceptance record of the vehicle, to print"
    )
    sub.add_argument(
        "--for",
        dest="for_s",
        type=_seconds,
        default=3.0,
        metavar="SECONDS",
        help="listen to each device so long",
    )
    sub.set_defaults(run=_doctor)

    sub = commands.add_parser(
        "bus", help="what is on a vehicle bus, live or in a log: identifiers, rates, known signals, bit rate"
    )
    sub.add_argument("log", type=Path, nargs="?", metavar="LOG", help="a log instead of the live bus")
    _config_option(sub)
    sub.add_argument("--device", metavar="NAME", help="only this bus of the configuration")
    sub.add_argument("--vehicle", type=Path, metavar="TOML", help="vehicle file (default: the bus's own)")
    sub.add_argument("--dbc", type=Path, metavar="FILE", help="DBC that names the messages of a log")
    sub.add_argument(
        "--for", dest="for_s", type=_seconds, default=10.0, metavar="SECONDS", help="how long to listen"
    )
    sub.add_argument(
        "--try-rates",
        action="store_true",
        help="listen at each bit rate an SLCAN adapter has, sending nothing",
    )
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.set_defaults(run=_bus)


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


def _buttons_options(sub: argparse.ArgumentParser) -> None:
    _config_option(sub)
    sub.add_argument(
        "--socket", type=Path, metavar="PATH", help="the daemon's socket, instead of the configuration's"
    )
    sub.add_argument(
        "--lamps", action="store_true", help="light each lamp in turn, sound each sound (agent stopped)"
    )
    sub.add_argument("--list", action="store_true", help="input devices and GPIO chips that there are")
    sub.add_argument(
        "--input", type=Path, metavar="DEVICE", help="an input device that is not configured yet"
    )
    sub.add_argument("--for", dest="for_s", type=_seconds, metavar="SECONDS", help="stop after this long")
    sub.set_defaults(run=_buttons)


def _watch_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--broker", required=True, metavar="URL", help="mqtt://[user@]host[:port] or mqtts://..."
    )
    sub.add_argument("--agency", help="only this agency")
    sub.add_argument("--unit", help="only this unit")
    sub.add_argument("--json", action="store_true", help="one JSON line a record")
    sub.add_argument("--ca-file", type=Path, help="authority to trust for mqtts://")
    sub.add_argument("--certificate", type=Path, help="our certificate, for a broker that asks for one")
    sub.add_argument("--key", type=Path, help="its key")
    sub.add_argument("--password-file", type=Path, help="password of the broker (or MDT_BROKER_PASSWORD)")
    sub.set_defaults(run=_watch)


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


def _ready(args: argparse.Namespace) -> int:
    from agent.cli.ready import ready

    return ready(args.socket, args.config or DEFAULT_CONFIG, as_json=args.json)


def _service(args: argparse.Namespace) -> int:
    from agent.cli.exit_code import ExitCode
    from agent.cli.services import services

    words: list[str] = args.words
    if words and (words[0] != "done" or len(words) != 2):  # noqa: PLR2004  # the word and the name
        print("mdt service, or mdt service done NAME")
        return ExitCode.FAILED
    done = words[1] if words else None
    return services(args.socket, args.config or DEFAULT_CONFIG, done=done, as_json=args.json)


def _times(args: argparse.Namespace) -> int:
    from agent.cli.run_times import times

    return times(args.socket, args.config or DEFAULT_CONFIG, as_json=args.json, as_nemsis=args.nemsis)


def _sky(args: argparse.Namespace) -> int:
    from agent.cli.sky import sky

    return sky(args.socket, args.config or DEFAULT_CONFIG, as_json=args.json, live=args.live)


def _buttons(args: argparse.Namespace) -> int:
    from agent.cli.buttons import buttons

    return buttons(
        args.config,
        args.socket,
        lamps=args.lamps,
        list_devices=args.list,
        input_device=args.input,
        for_s=args.for_s,
    )


def _watch(args: argparse.Namespace) -> int:
    from agent.cli.watch import watch

    return watch(
        args.broker,
        agency=args.agency,
        unit=args.unit,
        json_lines=args.json,
        ca_file=args.ca_file,
        certificate_file=args.certificate,
        key_file=args.key,
        password_file=args.password_file,
        out=sys.stdout,
    )


def _record(args: argparse.Namespace) -> int:
    from agent.cli.record import record

    return record(args.config, args.out, args.for_s)


def _diag(args: argparse.Namespace) -> int:
    from agent.cli.diag import diag

    return diag(args.socket, args.config or DEFAULT_CONFIG, bundle=args.bundle, as_json=args.json)


def _doctor(args: argparse.Namespace) -> int:
    from agent.cli.doctor.command import doctor

    return doctor(args.config, args.socket, listen_s=args.for_s, as_json=args.json, record=args.record)


def _bus(args: argparse.Namespace) -> int:
    from agent.cli.bus import run

    return run(args)


def _accuracy(args: argparse.Namespace) -> int:
    from agent.cli.accuracy import accuracy

    return accuracy(args.log, args.truth, sys.stdout, sys.stderr, as_json=args.json)


def _install_keys(args: argparse.Namespace) -> int:
    from agent.cli.install_keys import install_keys

    return install_keys(args.bundle, args.folder, sys.stdout, sys.stderr)


def _decode_nmea(args: argparse.Namespace) -> int:
    from agent.cli.decode_nmea import decode_nmea

    return decode_nmea(args.file, sys.stdout, sys.stderr)


def _decode_can(args: argparse.Namespace) -> int:
    from agent.cli.decode_can import decode_can

    return decode_can(args.file, args.vehicle, sys.stdout, sys.stderr, dbc=args.dbc, bus=args.bus)
