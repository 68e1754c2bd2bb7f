"""python -m hil cluster: a country's broker on one computer, to look at and to hurt."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

from hil.cluster.campaign import run as run_campaign
from hil.cluster.harms import HARMS
from hil.cluster.rabbitmq import CHECKOUT, READY_WITHIN_S, ClusterUnavailableError, find_root
from hil.cluster.site import Site
from hil.postgres_process import PostgresUnavailableError

STATE = CHECKOUT / ".rig" / "cluster.json"
DEFAULT_UNITS = 3
STOPS_WITHIN_S = 90.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    verbs = parser.add_subparsers(metavar="WHAT", required=True)
    sub = verbs.add_parser("make", help="make the root that RabbitMQ runs in, where this system has none")
    sub.set_defaults(verb=_make)
    sub = verbs.add_parser("up", help="start everything, print the addresses, leave it running")
    sub.add_argument("--units", type=int, default=DEFAULT_UNITS, help="vehicles that get keys (default 3)")
    sub.set_defaults(verb=_up)
    sub = verbs.add_parser("down", help="end it and leave nothing")
    sub.set_defaults(verb=_down)
    sub = verbs.add_parser("hold", help="the same as up, in the foreground until interrupted")
    sub.add_argument("--units", type=int, default=DEFAULT_UNITS)
    sub.set_defaults(verb=_hold)
    sub = verbs.add_parser("campaign", help="hurt it while units speak; exit 0 only if nothing was lost")
    sub.add_argument("--units", type=int, default=24, help="real units (default 24)")
    sub.add_argument("--minutes", type=float, default=5.0, help="go on for at least so long (default 5)")
    sub.add_argument("--seed", type=int, default=1)
    sub.set_defaults(verb=_campaign)


def run(args: argparse.Namespace) -> int:
    """Run the command; 2 where no cluster can be run."""
    try:
        return int(args.verb(args))
    except (ClusterUnavailableError, PostgresUnavailableError) as error:
        sys.stderr.write(f"cluster: {error}\n")
        return 2


def _make(_: argparse.Namespace) -> int:
    sys.stdout.write(f"{find_root(make=True)}\n")
    return 0


def _names(count: int) -> list[str]:
    return [f"A{number}" for number in range(1, count + 1)]


def _hold(args: argparse.Namespace) -> int:
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    folder = Path(tempfile.mkdtemp(prefix="mdt-cluster-", dir="/tmp"))
    try:
        with Site(find_root(make=True), folder, _names(args.units)) as site:
            told = {
                "pid": os.getpid(),
                "page": site.services[0].page,
                "mqtts": [f"localhost:{node.mqtt_port}" for node in site.cluster.nodes],
                "amqps": [f"localhost:{node.amqp_port}" for node in site.cluster.nodes],
                "keys": str(site.cluster.keys),
                "database": site.database,
                "logs": str(folder),
            }
            STATE.parent.mkdir(parents=True, exist_ok=True)
            STATE.write_text(json.dumps(told, indent=1) + "\n")
            ended.wait()
    finally:
        STATE.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _up(args: argparse.Namespace) -> int:
    if _running() is not None:
        sys.stderr.write("cluster: it is up already\n")
        return 1
    find_root(make=True)
    log = CHECKOUT / ".rig" / "cluster.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "hil", "cluster", "hold", "--units", str(args.units)],
            cwd=CHECKOUT,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    until_s = time.monotonic() + READY_WITHIN_S
    while not STATE.exists():
        if process.poll() is not None or time.monotonic() > until_s:
            process.terminate()
            sys.stderr.write(f"cluster: it did not start; see {log}\n")
            return 1
        threading.Event().wait(0.2)
    sys.stdout.write(STATE.read_text())
    return 0


def _running() -> int | None:
    try:
        pid = int(json.loads(STATE.read_text())["pid"])
        os.kill(pid, 0)
    except (OSError, ValueError, KeyError):
        return None
    return pid


def _down(_: argparse.Namespace) -> int:
    pid = _running()
    if pid is None:
        sys.stdout.write("cluster: it is not up\n")
        return 0
    os.kill(pid, signal.SIGTERM)
    until_s = time.monotonic() + STOPS_WITHIN_S
    while _running() is not None:
        if time.monotonic() > until_s:
            sys.stderr.write(f"cluster: process {pid} does not end\n")
            return 1
        threading.Event().wait(0.2)
    return 0


def _campaign(args: argparse.Namespace) -> int:
    begun_s, rounds, good = time.monotonic(), 0, True
    folder = Path(tempfile.mkdtemp(prefix="mdt-cluster-", dir="/tmp"))
    try:
        while rounds == 0 or (good and time.monotonic() - begun_s < 60 * args.minutes):
            rounds += 1
            with Site(find_root(), folder / str(rounds), _names(args.units)) as site:
                harms = [(name, partial(harm, site)) for name, harm in HARMS.items()]
                outcome = asyncio.run(run_campaign(site, harms, seed=args.seed + rounds))
            good = outcome.good
            settled = "never" if outcome.settled_s is None else f"after {outcome.settled_s:.1f} s"
            sys.stdout.write("\n".join(outcome.notes) + "\n")
            sys.stdout.write(
                f"round {rounds}: {outcome.pressed} pressed, {outcome.acknowledged} acknowledged, "
                f"lost {len(outcome.lost)}, twice {len(outcome.doubled)}, strange {len(outcome.strange)}, "
                f"settled {settled}, longest from press to acknowledgement {outcome.longest_s:.1f} s\n"
            )
            sys.stdout.flush()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if good else 1
