"""`mdt watch`: what dispatch sees, live. What is missing in a journal is asked for without being told to."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from agent.cli.daemon_time import certificates_at_unix_s
from agent.cli.exit_code import ExitCode
from agent.cli.watch_display import Display, JsonDisplay, TextDisplay
from agent.config import Broker, Secret, Tls
from agent.domain.health import HealthReason
from agent.reader.consumer import Consumer
from agent.reader.journal_reader import JournalReader
from agent.runtime.plain_text import harmless
from agent.uplink.link.link import Closed, Link, LinkEvent, Message, Opened, Opening, Received
from agent.wire.topics import subscriptions

PASSWORD_VARIABLE = "MDT_BROKER_PASSWORD"  # noqa: S105  # the name of a variable, not a password
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_KEEPALIVE_S = 20.0
_CONNECT_TIMEOUT_S = 10.0
_RECONNECT_S = (1.0, 30.0)
_WAIT_FIRST_S = 2.0
"""Between attempts at a broker that never answered."""
_REFRESH_S = 0.25


def watch(
    broker_url: str,
    *,
    agency: str | None,
    unit: str | None,
    json_lines: bool,
    out: TextIO,
    ca_file: Path | None = None,
    certificate_file: Path | None = None,
    key_file: Path | None = None,
    password_file: Path | None = None,
    err: TextIO | None = None,
) -> int:
    """Show what units say until interrupted.

    Args:
        broker_url: mqtt://[user@]host[:port] or mqtts://...; the password is in `password_file` or in the
            environment variable MDT_BROKER_PASSWORD, never in the URL, which every user of the machine sees.
        agency: only this agency.
        unit: only this unit.
        json_lines: print JSON lines instead of a table.
        out: where to show it; a terminal gets a live table.
        ca_file: authority to trust for mqtts, instead of the system's.
        certificate_file: our own certificate, where the broker asks for one.
        key_file: its key.
        password_file: file that holds the password.
        err: where to complain; standard error when not given.

    Returns:
        The exit code.
    """
    err = err or sys.stderr
    try:
        broker = broker_of(
            broker_url,
            ca_file=ca_file,
            certificate_file=certificate_file,
            key_file=key_file,
            password_file=password_file,
        )
    except ValueError as error:
        err.write(f"mdt watch: {error}\n")
        return ExitCode.BAD_CONFIG

    async def serve() -> int:
        from agent.uplink.link.paho_link import PahoLink
        from firmware_shims.system_clock import SystemClock

        clock = SystemClock()
        display: Display = (
            JsonDisplay(out, err) if json_lines else TextDisplay(out, lambda: clock.system_utc().unix_ms)
        )

        def certificates_at() -> float | None:
            return certificates_at_unix_s(clock.system_utc().unix_ms / 1000)

        return await Watcher(
            PahoLink,
            broker,
            subscriptions(agency, unit),
            display,
            err,
            certificates_at=certificates_at,
        ).run()

    try:
        return asyncio.run(serve())
    except KeyboardInterrupt:
        return ExitCode.OK


def broker_of(
    url: str,
    *,
    ca_file: Path | None = None,
    certificate_file: Path | None = None,
    key_file: Path | None = None,
    password_file: Path | None = None,
) -> Broker:
    """The broker that a URL means. Raises ValueError with one plain sentence."""
    # What is shown of a URL that is no good: never what stands before its @, which may be a password.
    shown = f"...{url[url.rindex('@') :]}" if "@" in url else url
    form = f"{shown}: a broker is mqtt://[user@]host[:port], or mqtts://... with TLS"
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(form) from None
    if parts.password is not None:
        raise ValueError(f"the password does not belong into the URL; put it into {PASSWORD_VARIABLE}")
    if parts.scheme not in _PORTS or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise ValueError(form)
    try:
        port = parts.port or _PORTS[parts.scheme]
    except ValueError:
        raise ValueError(f"{shown}: the port is no number from 1 to 65535") from None
    _check_files(parts.scheme, ca_file, certificate_file, key_file)
    tls = Tls(ca_file=ca_file, certificate_file=certificate_file, key_file=key_file)
    password = None
    if parts.username is not None:
        if password_file is not None:
            password = Secret(file=password_file)
        elif PASSWORD_VARIABLE in os.environ:
            password = Secret(environment=PASSWORD_VARIABLE)
    try:
        return Broker(
            host=parts.hostname,
            port=port,
            tls=tls if parts.scheme == "mqtts" else None,
            allow_plaintext=parts.scheme == "mqtt",
            username=None if parts.username is None else unquote(parts.username),
            password=password,
        )
    except ValidationError as error:
        raise ValueError(f"{shown}: {error.errors()[0]['msg']}") from None


def _check_files(
    scheme: str, ca_file: Path | None, certificate_file: Path | None, key_file: Path | None
) -> None:
    files = [file for file in (ca_file, certificate_file, key_file) if file is not None]
    if scheme == "mqtt" and files:
        raise ValueError("an authority and certificates need mqtts://")
    if (certificate_file is None) != (key_file is None):
        raise ValueError("a certificate and its key go together")
    for file in files:
        if not os.access(file, os.R_OK):
            raise ValueError(f"{file} can not be read")


class Watcher:
    """Reads from a broker, connecting again whenever the connection ends.

    Args:
        new_link: makes a link to the broker, inside the running loop.
        broker: where to.
        filters: what to subscribe to.
        display: where to show it.
        err: where to complain.
        certificates_at: the true time in Unix seconds where the system clock has another; asked at each try.
    """

    def __init__(
        self,
        new_link: Callable[[], Link],
        broker: Broker,
        filters: tuple[str, ...],
        display: Display,
        err: TextIO,
        *,
        certificates_at: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._certificates_at = certificates_at
        self._new_link = new_link
        self._broker = broker
        self._filters = filters
        self._display = display
        self._err = err
        self._consumer = Consumer()
        self._wait_s = _RECONNECT_S[0]
        self._was_open = False
        self._waiting_because = ""
        self._where = harmless(f"{broker.host}:{broker.port}")

    @property
    def _longest_wait_s(self) -> float:
        """Who has just typed the command sits there; a broker that was up once may be away for hours."""
        return _RECONNECT_S[1] if self._was_open else _WAIT_FIRST_S

    @property
    def reader(self) -> JournalReader:
        """What was read so far."""
        return self._consumer.reader

    async def run(self) -> int:
        """Watch until cancelled.

        A broker that is not up yet is waited for, saying so. One that answered and said no (credentials, TLS)
        before it ever let us in is not: what is wrong then is mended by whoever typed it.
        """
        link = self._new_link()
        try:
            while True:
                closed = await self._follow_one_connection(link)
                why = harmless(closed.detail or closed.reason)
                if self._was_open:
                    self._display.note(f"connection to {self._where} ended: {why}")
                    self._display.refresh()
                elif closed.reason != HealthReason.BROKER_UNREACHABLE:
                    self._err.write(f"mdt watch: {self._where}: {why}\n")
                    return ExitCode.UNAVAILABLE
                elif why != self._waiting_because:
                    self._waiting_because = why
                    self._err.write(f"mdt watch: waiting for the broker: {self._where}: {why}\n")
                    self._err.flush()
                await asyncio.sleep(self._wait_s)
                self._wait_s = min(self._wait_s * 2, self._longest_wait_s)
        finally:
            await link.close()
            with suppress(BrokenPipeError):
                self._display.refresh()

    async def _follow_one_connection(self, link: Link) -> Closed:
        events: asyncio.Queue[LinkEvent] = asyncio.Queue()
        link.open(
            Opening(
                broker=self._broker,
                client_id=f"mdt-watch-{uuid.uuid4().hex[:12]}",
                keepalive_s=_KEEPALIVE_S,
                connect_timeout_s=_CONNECT_TIMEOUT_S,
                subscriptions=self._filters,
                certificates_at_unix_s=self._certificates_at(),
            ),
            events.put_nowait,
        )
        loop = asyncio.get_running_loop()
        refresh_s = loop.time() + _REFRESH_S
        is_open = False
        while True:
            if loop.time() >= refresh_s:
                self._display.refresh()
                for one in self._consumer.due(loop.time()) if is_open else ():
                    link.publish(Message(one.topic, one.encoded.payload))
                refresh_s = loop.time() + _REFRESH_S
            try:
                async with asyncio.timeout_at(refresh_s):
                    event = await events.get()
            except TimeoutError:
                continue
            if isinstance(event, Closed):
                return event
            is_open = is_open or isinstance(event, Opened)
            self._take(event)

    def _take(self, event: LinkEvent) -> None:
        if isinstance(event, Opened):
            if self._waiting_because and not self._was_open:
                self._display.note(f"connected to {self._where}")
            self._was_open, self._wait_s = True, _RECONNECT_S[0]
            for refused in event.refused_subscriptions:
                self._display.note(f"the broker does not let us read {refused}")
        elif isinstance(event, Received):
            arrival = self._consumer.take(event.topic, event.payload, asyncio.get_running_loop().time())
            if arrival is None:
                return
            if arrival.records:
                self._display.show_records(arrival.topics, arrival.records)
            if arrival.state is not None:
                self._display.show_state(arrival.topics, arrival.state)
            if arrival.problem:
                self._display.note(arrival.problem)
