"""The mdt-pki command: keys and certificates of a fleet in a few words."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from agent.dispatch.pki import LEAF_DAYS, RESERVED, Authority, PkiError, now_utc

_EPILOG = """\
examples:
  mdt-pki init --name "Boston EMS"                 the authority; keep ca.key off line
  mdt-pki broker broker.example.org 192.0.2.10     for the broker, under every name that vehicles know
  mdt-pki unit A7                                  prints the bundle; in the vehicle: mdt install-keys A7.tar
  mdt-pki dispatch                                 for mdt-dispatch
  mdt-pki client fleet                             for a program of fleet services
  mdt-pki revoke A7 --then "cp pki/revoked.crl /etc/mosquitto/certs/ && systemctl restart mosquitto"
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code."""
    args = _parser().parse_args(argv)
    work: Callable[[Authority, argparse.Namespace], None] = args.work
    try:
        work(Authority(args.folder, _now), args)
    except (PkiError, OSError) as error:
        sys.stderr.write(f"mdt-pki: {error}\n")
        return 1
    return 0


def _now() -> datetime:
    from firmware_shims.system_clock import SystemClock

    return now_utc(SystemClock().system_utc().unix_ms)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mdt-pki",
        description="Keys and certificates of a fleet.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("pki"), help="where the authority is (default: ./pki)"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    sub = commands.add_parser("init", help="make the authority and an empty list of revocations")
    sub.add_argument("--name", default="ambulance telematics", help="what the authority is called")
    sub.set_defaults(work=_init)
    sub = commands.add_parser("broker", help="certificate of the broker")
    sub.add_argument("hosts", nargs="+", metavar="HOST", help="names and addresses that vehicles know it by")
    _days(sub)
    sub.set_defaults(work=_broker)
    sub = commands.add_parser("unit", help="certificate of a vehicle, with its bundle")
    sub.add_argument("name", metavar="UNIT")
    _days(sub)
    sub.set_defaults(work=_unit)
    sub = commands.add_parser("dispatch", help="certificate of mdt-dispatch")
    _days(sub)
    sub.set_defaults(work=_client, name="dispatch")
    sub = commands.add_parser(
        "client", help="certificate of a program or person: watch, fleet, safety, readers, ..."
    )
    sub.add_argument("name")
    _days(sub)
    sub.set_defaults(work=_client)
    sub = commands.add_parser("renew", help="a fresh certificate and key for a name")
    sub.add_argument("name")
    sub.add_argument("--revoke-old", action="store_true", help="block the ones before at once")
    _days(sub)
    sub.set_defaults(work=_renew)
    sub = commands.add_parser("revoke", help="block every certificate of a name")
    sub.add_argument("name")
    sub.add_argument("--then", metavar="COMMAND", help='run this afterwards: "systemctl restart mosquitto"')
    sub.set_defaults(work=_revoke)
    sub = commands.add_parser("list", help="what was issued, until when, and what was revoked")
    sub.set_defaults(work=_list)
    return parser


def _days(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--days", type=int, default=LEAF_DAYS, help=f"until it ends (default {LEAF_DAYS})")


def _init(authority: Authority, args: argparse.Namespace) -> None:
    authority.init(args.name)
    _say(f"{authority.certificate_file} for everybody, {authority.crl_file} for the broker's crlfile")


def _broker(authority: Authority, args: argparse.Namespace) -> None:
    _say(f"{authority.broker(args.hosts, args.days)}/broker.crt and broker.key")


def _unit(authority: Authority, args: argparse.Namespace) -> None:
    folder = authority.unit(args.name, args.days)
    _say(f"{folder}/{args.name}.tar; in the vehicle: mdt install-keys {args.name}.tar")


def _client(authority: Authority, args: argparse.Namespace) -> None:
    _say(f"{authority.client(args.name, args.days)}/{args.name}.crt and {args.name}.key")
    if args.name not in RESERVED:
        _say(
            f"The shipped access rules have no block for {args.name}: give mdt.acl one that begins with\n"
            f"user {args.name}\ntopic deny ems/v1/AGENCY/{args.name}/#\n"
            "or the broker takes it for a vehicle of that name."
        )


def _renew(authority: Authority, args: argparse.Namespace) -> None:
    folder = authority.renew(args.name, args.days)
    if args.revoke_old:
        authority.revoke(args.name, but_newest=True)
    _say(f"{folder}: fresh certificate and key")


def _revoke(authority: Authority, args: argparse.Namespace) -> None:
    blocked = authority.revoke(args.name)
    _say(f"{blocked} certificate{'s' if blocked > 1 else ''} of {args.name} blocked in {authority.crl_file}")
    if args.then is None:
        _say("Restart the broker now: a reload (SIGHUP) keeps it out, too, but not a connection that stands.")
        return
    done = subprocess.run(args.then, shell=True, check=False)  # noqa: S602  # what the administrator typed
    if done.returncode != 0:
        raise PkiError(f"{args.then!r} failed with {done.returncode}: the broker may not know of it yet")


def _list(authority: Authority, _: argparse.Namespace) -> None:
    for one in authority.issued():
        state = f"revoked {one.revoked}" if one.revoked else f"until {one.not_after}"
        _say(f"{one.name:20} {one.kind:7} {state}  {' '.join(one.hosts)}".rstrip())


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
