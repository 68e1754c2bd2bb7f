"""The mdt-dispatch command."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import unquote, urlsplit

from agent.config.section import ConfigError
from agent.runtime import log

if TYPE_CHECKING:
    from agent.dispatch.settings import DispatchFile

OK, FAILED, UNAVAILABLE, BAD_CONFIG = 0, 1, 69, 78
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_EPILOG = """\
examples:
  mdt-dispatch run --broker mqtt://localhost --store units.db     a first try; the page's address is printed
  mdt-dispatch run --config /etc/mdt-dispatch/dispatch.toml       as systemd runs it
  mdt-dispatch check --config dispatch.toml                       configuration, store and broker, a line each
  mdt-dispatch token anna --role dispatch                         a token for somebody, and its row
  mdt-dispatch export --store units.db --what events              CSV of everything that was pressed
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code."""
    args = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        return run(args)
    except ConfigError as error:
        for problem in error.problems:
            sys.stderr.write(f"{problem}\n")
        return BAD_CONFIG
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mdt-dispatch",
        description="Dispatch's end of the wire: stores, confirms and shows what units say.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    sub = commands.add_parser("run", help="run the service until it is told to stop")
    _settings_options(sub)
    sub.add_argument(
        "--listen", metavar="HOST:PORT", help="where the page is served (default 127.0.0.1:8480)"
    )
    sub.add_argument(
        "--simulated-time",
        action="store_true",
        help="now is what the units say: for simulated and recorded drives",
    )
    sub.set_defaults(run=_run)

    sub = commands.add_parser(
        "token", help="make a token; prints the secret once and the row that lets it in"
    )
    sub.add_argument("name")
    sub.add_argument("--role", choices=("dispatch", "fleet", "safety", "reader"), default="reader")
    sub.set_defaults(run=_token)

    sub = commands.add_parser(
        "check", help="configuration, store, broker and files, a line each; exit 0 if none is bad"
    )
    _settings_options(sub)
    sub.set_defaults(run=_check)

    sub = commands.add_parser(
        "stats", help="vital statistics of a time (default: yesterday), each with its definition"
    )
    _settings_options(sub, broker=False)
    _span_options(sub)
    sub.add_argument("--format", choices=("text", "csv", "json"), default="text")
    sub.add_argument("--districts", type=Path, metavar="GEOJSON", help="areas with a property `name`")
    sub.set_defaults(run=_stats)

    sub = commands.add_parser("export", help="what was stored, as CSV or GeoJSON on standard output")
    _settings_options(sub, broker=False)
    _span_options(sub)
    sub.add_argument(
        "--what",
        choices=("events", "positions", "calls", "times"),
        default="events",
        help="times: the NEMSIS times of each run",
    )
    sub.add_argument("--format", choices=("csv", "geojson"), default="csv")
    sub.set_defaults(run=_export)

    sub = commands.add_parser(
        "kit", help="play a unit against a consumer, or dispatch against a unit, and judge it"
    )
    sub.add_argument("what", choices=("unit", "dispatch"))
    _settings_options(sub)
    sub.add_argument("--unit", default="KIT1", help="unit that is played, or that is tried (default KIT1)")
    sub.add_argument("--have", type=Path, metavar="FILE", help="unit: what the consumer has, as JSON")
    sub.add_argument("--expect", type=Path, metavar="FILE", help="unit: write what it should have")
    sub.add_argument(
        "--wait",
        type=float,
        metavar="SECONDS",
        help="unit: for requests and the file (60); dispatch: a step (10)",
    )
    sub.set_defaults(run=_kit)

    sub = commands.add_parser("rebuild", help="make the rows anew from the raw batches (service stopped)")
    _settings_options(sub, broker=False)
    sub.set_defaults(run=_rebuild)
    return parser


def _span_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--since", metavar="TIME", help="ISO date or time, UTC unless it says otherwise")
    sub.add_argument("--until", metavar="TIME", help="the same; a day after --since by default")


def _settings_options(sub: argparse.ArgumentParser, *, broker: bool = True) -> None:
    sub.add_argument("--config", type=Path, metavar="FILE", help="configuration file (TOML)")
    sub.add_argument("--store", metavar="FILE|URL", help="SQLite file, or postgresql://user@host/database")
    if broker:
        sub.add_argument("--broker", metavar="URL", help="mqtt://[user@]host[:port] or mqtts://...")
        sub.add_argument("--agency", help="only this agency's units")
        sub.add_argument(
            "--streets", type=Path, metavar="GEOJSON", help="streets for a map without a network"
        )
        for name, text in (
            ("--ca-file", "authority to trust for mqtts://"),
            ("--certificate", "our certificate for mqtts://"),
            ("--key", "its key"),
            ("--password-file", "password of the broker"),
        ):
            sub.add_argument(name, type=Path, metavar="FILE", help=text)


def settings_of(args: argparse.Namespace) -> DispatchFile:
    """The file with the options over it. Raises ConfigError."""
    from agent.config.reading import validate
    from agent.dispatch.settings import DispatchFile

    given = vars(args)
    table = {} if args.config is None else _read_toml(args.config)
    for name in ("store", "agency"):
        if given.get(name) is not None:
            table[name] = given[name]
    if given.get("streets") is not None:
        table["streets"] = str(args.streets.resolve())
    if given.get("broker") is not None:
        table["broker"] = broker_table(args)
    if given.get("listen") is not None:
        table["listen"] = dict(table.get("listen") or {}) | _listen_table(args.listen)
    if "broker" not in table:
        if "broker" in given:
            raise ConfigError(["no broker: give --broker URL, or [broker] in the file"])
        table["broker"] = {"host": "not-used", "allow_plaintext": True}
    return validate(DispatchFile, table, args.config or Path("command line"))


def _read_toml(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: can not be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from error


def _listen_table(text: str) -> dict[str, Any]:
    host, _, port = text.rpartition(":")
    if not port.isdigit():
        raise ConfigError([f"--listen {text}: say HOST:PORT"])
    return {"host": host.strip("[]") or "127.0.0.1", "port": int(port)}


def broker_table(args: argparse.Namespace) -> dict[str, object]:
    """The [broker] table that a URL and its companions mean. Raises ConfigError."""
    parts = urlsplit(args.broker)
    try:
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        port = None
    if port is None or not parts.hostname or parts.path not in ("", "/") or parts.password is not None:
        raise ConfigError(
            ["--broker: mqtt://[user@]host[:port] or mqtts://..., the password in --password-file"]
        )
    tls = {
        name: str(file.resolve())
        for name, file in (
            ("ca_file", args.ca_file),
            ("certificate_file", args.certificate),
            ("key_file", args.key),
        )
        if file is not None
    }
    if tls and parts.scheme == "mqtt":
        raise ConfigError(["certificates need mqtts://"])
    table: dict[str, object] = {"host": parts.hostname, "port": port}
    table |= {"tls": tls} if parts.scheme == "mqtts" else {"allow_plaintext": True}
    if parts.username is not None:
        table["username"] = unquote(parts.username)
    if args.password_file is not None:
        table["password"] = {"file": str(args.password_file.resolve())}
    return table


def _run(args: argparse.Namespace) -> int:
    from agent.dispatch.settings import Token

    settings = settings_of(args)
    log.set_up("info")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    secret: str | None = None
    if not settings.tokens and settings.listen.loopback:
        from agent.dispatch.access import new_token

        secret, row = new_token("this computer", "dispatch")
        settings = settings.model_copy(update={"tokens": (Token(**row.model_dump()),)})
    return asyncio.run(serve(settings, sys.stdout, secret=secret, simulated=args.simulated_time))


async def serve(
    settings: DispatchFile, out: TextIO, *, secret: str | None = None, simulated: bool = False
) -> int:
    """Run the service and the page until SIGTERM or SIGINT."""
    from agent.dispatch.access import Access
    from agent.dispatch.api import create_app
    from agent.dispatch.mqtt_source import MqttSource
    from agent.dispatch.server import Serving
    from agent.dispatch.service import Service, Source
    from agent.dispatch.simulated_clock import SimulatedClock
    from agent.dispatch.store.engine import StoreError, engine_of
    from agent.wire.topics import Area, subscriptions
    from firmware_shims.system_clock import SystemClock

    system = SystemClock()
    clock = SimulatedClock(lambda: system.system_utc().unix_ms)
    now_ms = clock.now_ms

    def new_source(
        on_message: Callable[..., None], on_state: Callable[..., None], read_to: Callable[[], int | None]
    ) -> Source:
        def mqtt(on_message: Callable[..., None], on_state: Callable[..., None]) -> MqttSource:
            filters = subscriptions(settings.agency)
            if settings.stream is not None:
                filters = tuple(one for one in filters if f"/{Area.JOURNAL}/" not in one)
            return MqttSource(
                (settings.broker, *settings.more_brokers),
                client_id=settings.client_id,
                session_s=settings.session_days * 86_400,
                filters=filters,
                now_ms=now_ms,
                on_message=on_message,
                on_state=on_state,
            )

        if settings.stream is None:
            return mqtt(on_message, on_state)
        from agent.dispatch.stream_source import StreamSource

        return StreamSource(
            settings.stream,
            agency=settings.agency,
            now_ms=now_ms,
            read_to=read_to,
            on_message=on_message,
            on_state=on_state,
            mqtt=mqtt,
        )

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        async with Service(settings, engine_of(settings.store), new_source, now_ms) as service:
            if simulated:
                service.simulated = True
                service.on_stored.append(clock.hear)
            app = create_app(service, Access(settings.tokens, settings.certificates))
            async with Serving(app, settings.listen) as serving:
                out.write(f"page: {serving.url}/" + (f"#token={secret}" if secret else "") + "\n")
                out.flush()
                waiting: asyncio.Future[Any] = asyncio.ensure_future(stopped.wait())
                await asyncio.wait({waiting, service.failed}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                service.hub.close()
                if service.failed.done():
                    log.EventLog("dispatch").error("part_failed", exc=service.failed.exception())
                    return FAILED
    except (StoreError, ValueError) as error:
        sys.stderr.write(f"mdt-dispatch: {error}\n")
        return UNAVAILABLE
    except OSError as error:
        sys.stderr.write(f"mdt-dispatch: {settings.listen.host}:{settings.listen.port}: {error}\n")
        return UNAVAILABLE
    return OK


def _token(args: argparse.Namespace) -> int:
    from agent.dispatch.access import new_token

    secret, row = new_token(args.name, args.role)
    table = f"[[tokens]]\nname = {row.name!r}\nrole = {row.role!r}\nsha256 = {row.sha256!r}\n"
    sys.stdout.write(f"secret, shown once: {secret}\n\n{table}")
    return OK


def _kit(args: argparse.Namespace) -> int:
    from agent.dispatch.kit_command import play_dispatch, play_unit
    from firmware_shims.system_clock import SystemClock

    settings = settings_of(args)
    if args.what == "dispatch":
        return asyncio.run(play_dispatch(settings, args.unit, wait_s=args.wait or 10.0, out=sys.stdout))
    wait_s, now_ms = args.wait or 60.0, SystemClock().system_utc().unix_ms
    return asyncio.run(
        play_unit(settings, args.unit, args.have, args.expect, wait_s=wait_s, now_ms=now_ms, out=sys.stdout)
    )


def _check(args: argparse.Namespace) -> int:
    from agent.dispatch.reports import check

    return OK if check(settings_of(args), sys.stdout) else FAILED


def _stats(args: argparse.Namespace) -> int:
    from agent.dispatch.reports import stats
    from firmware_shims.system_clock import SystemClock

    settings, span = settings_of(args), _span(args)
    now_ms = SystemClock().system_utc().unix_ms
    return _told(
        lambda: stats(settings, span, args.format, sys.stdout, districts=args.districts, now_ms=now_ms)
    )


def _export(args: argparse.Namespace) -> int:
    from agent.dispatch.reports import export

    settings, span = settings_of(args), _span(args)
    return _told(lambda: export(settings, args.what, span, args.format, sys.stdout))


def _span(args: argparse.Namespace) -> tuple[int, int]:
    from agent.dispatch.reports import span_of
    from firmware_shims.system_clock import SystemClock

    try:
        return span_of(args.since, args.until, SystemClock().system_utc().unix_ms)
    except ValueError as error:
        raise ConfigError([f"--since, --until: {error}"]) from error


def _told(work: Callable[[], object]) -> int:
    """Run a report; what keeps it from being made is one sentence."""
    from agent.dispatch.store.engine import StoreError

    try:
        work()
    except (StoreError, ValueError) as error:
        sys.stderr.write(f"mdt-dispatch: {error}\n")
        return UNAVAILABLE
    except BrokenPipeError:
        raise
    except OSError as error:
        sys.stderr.write(f"mdt-dispatch: {error}\n")
        return UNAVAILABLE
    return OK


def _rebuild(args: argparse.Namespace) -> int:
    from agent.dispatch.store.engine import StoreError, engine_of
    from agent.dispatch.store.store import Store

    store = Store(engine_of(settings_of(args).store))
    try:
        store.open()
        sys.stdout.write(f"{store.rebuild()} rows\n")
    except StoreError as error:
        sys.stderr.write(f"mdt-dispatch: {error}\n")
        return UNAVAILABLE
    finally:
        store.close()
    return OK


if __name__ == "__main__":
    sys.exit(main())
