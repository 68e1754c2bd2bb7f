"""TCP and TLS connections that are opened within a deadline and can be given up from another thread."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import ssl
from collections.abc import Sequence
from time import monotonic
from typing import Self


class InterruptedByCloseError(Exception):
    """The interrupt descriptor became readable: the connection is not wanted any more."""


def wait_for(descriptor: int, events: int, deadline: float, interrupt: int) -> None:
    """Wait until `descriptor` has one of the poll `events`.

    Args:
        descriptor: what to wait for.
        events: select.POLLIN, select.POLLOUT.
        deadline: in time.monotonic() seconds.
        interrupt: descriptor that becomes readable when waiting is pointless.

    Raises:
        TimeoutError: the deadline passed.
        InterruptedByCloseError: `interrupt` became readable.
    """
    poller = select.poll()
    poller.register(descriptor, events)
    poller.register(interrupt, select.POLLIN)
    ready = dict(poller.poll(max(0.0, deadline - monotonic()) * 1000))
    if interrupt in ready:
        raise InterruptedByCloseError
    if not ready:
        raise TimeoutError("timed out")


def connect(host: str, port: int, timeout_s: float, interrupt: int) -> socket.socket:
    """Open a non-blocking TCP connection to the address of `host` that answers first.

    The addresses are dialled one shortly after the other, as in RFC 8305, and all of them anew every second:
    the kernel would repeat a lost SYN after 1, 3, 7 and 15 s, and a vehicle that leaves a tunnel would stay
    dark for up to half of that. An address that refuses is not dialled again. The look-up of the name can
    not be bounded or interrupted.

    Raises:
        OSError: no address could be reached (TimeoutError among them).
        InterruptedByCloseError: given up by the caller.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    with _Dialling(list(dict.fromkeys(found)), monotonic() + timeout_s, interrupt) as dialling:
        return dialling.first()


Address = tuple[int, int, int, str, object]
"""As getaddrinfo gives it."""


class _Dialling:
    """Sockets that are connecting to the addresses of one host."""

    def __init__(self, addresses: Sequence[Address], deadline: float, interrupt: int) -> None:
        self._addresses = list(addresses)
        self._turn = 0
        self._deadline = deadline
        self._interrupt = interrupt
        self._pending: dict[int, tuple[socket.socket, Address]] = {}
        self._failure: OSError = OSError(errno.EHOSTUNREACH, "no address is known for it")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sock, _address in self._pending.values():
            sock.close()

    def first(self) -> socket.socket:
        """The first that is connected."""
        while self._addresses:
            self._dial()
            round_over = self._turn >= len(self._addresses)
            pause_s = (REDIAL_S if round_over else STAGGER_S) if self._pending else 0.0
            if round_over:
                self._turn = 0
            sock = self._wait(min(self._deadline, monotonic() + pause_s))
            if sock is not None:
                return sock
            if monotonic() >= self._deadline:
                raise TimeoutError("timed out")
        raise self._failure

    def _dial(self) -> None:
        address = self._addresses[self._turn]
        self._turn += 1
        family, kind, protocol, _, endpoint = address
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # a family that this kernel lacks, or no descriptor left
            self._failed(address, error)
            return
        self._pending[sock.fileno()] = sock, address
        sock.setblocking(False)
        try:
            sock.connect(endpoint)  # type: ignore[arg-type]  # getaddrinfo gives the family's own form
        except BlockingIOError:
            pass
        except OSError as error:
            self._drop(sock.fileno(), error)

    def _wait(self, until: float) -> socket.socket | None:
        """A connected socket; None when it is time to dial again."""
        while True:
            poller = select.poll()
            poller.register(self._interrupt, select.POLLIN)
            for descriptor in self._pending:
                poller.register(descriptor, select.POLLOUT)
            ready = [descriptor for descriptor, _ in poller.poll(max(0.0, until - monotonic()) * 1000)]
            if self._interrupt in ready:
                raise InterruptedByCloseError
            for descriptor in ready:
                sock, _address = self._pending[descriptor]
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code == 0:
                    del self._pending[descriptor]
                    return sock
                self._drop(descriptor, OSError(code, os.strerror(code)))
            if not self._pending or not ready:
                return None

    def _drop(self, descriptor: int, error: OSError) -> None:
        sock, address = self._pending.pop(descriptor)
        sock.close()
        self._failed(address, error)

    def _failed(self, address: Address, error: OSError) -> None:
        self._failure = error
        if address in self._addresses:
            if self._addresses.index(address) < self._turn:
                self._turn -= 1
            self._addresses.remove(address)


REDIAL_S = 1.0
"""After so long every address is dialled anew."""
STAGGER_S = 0.25
"""Between an address and the next one; RFC 8305 calls it the connection attempt delay."""


def start_tls(
    sock: socket.socket, context: ssl.SSLContext, host: str, timeout_s: float, interrupt: int
) -> ssl.SSLSocket:
    """Shake hands over a connected non-blocking socket; it is closed when that fails.

    Raises:
        ssl.SSLError: the broker is not who it should be, or does not speak TLS as we do.
        OSError: the connection broke or timed out.
        InterruptedByCloseError: given up by the caller.
    """
    deadline = monotonic() + timeout_s
    try:
        secured = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    except BaseException:
        sock.close()
        raise
    try:
        while True:
            try:
                secured.do_handshake()
            except ssl.SSLWantReadError:
                _wait_while_it_gets_through(secured, select.POLLIN, deadline, interrupt)
            except ssl.SSLWantWriteError:
                _wait_while_it_gets_through(secured, select.POLLOUT, deadline, interrupt)
            else:
                return secured
    except BaseException:
        secured.close()
        raise


def _wait_while_it_gets_through(sock: socket.socket, events: int, deadline: float, interrupt: int) -> None:
    while True:
        look_at = min(deadline, monotonic() + DARK_LOOK_S)
        try:
            wait_for(sock.fileno(), events, look_at, interrupt)
        except TimeoutError:
            if monotonic() >= deadline or dark(sock):
                raise
        else:
            return


DARK_AFTER_RETRANSMISSIONS = 4
"""So often in a row the kernel has sent the same bytes again in vain: 0.2 + 0.4 + 0.8 + 1.6 s at the least,
and more in proportion on a slow network. Its next try would come after as long again."""
DARK_LOOK_S = 0.5
"""How often to look whether what was said gets through."""
_RETRANSMISSIONS_AT = 2
"""Offset of tcpi_retransmits in struct tcp_info (linux/tcp.h)."""
_UNANSWERED_MS_MOST = 15_000


def dark(sock: socket.socket) -> bool:
    """True when nothing that was sent gets through to the other end any more."""
    if not hasattr(socket, "TCP_INFO"):
        return False
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)
    except OSError:
        return False  # it is closed, which whoever reads it is told
    return info[_RETRANSMISSIONS_AT] >= DARK_AFTER_RETRANSMISSIONS


def way_changed(sock: socket.socket) -> bool:
    """True when the kernel would now reach the peer from another address than the connection has."""
    try:
        with socket.socket(sock.family, socket.SOCK_DGRAM) as probe:
            probe.connect(sock.getpeername())  # sends nothing
            return bool(probe.getsockname()[0] != sock.getsockname()[0])
    except OSError as error:
        return error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN)


def tune(sock: socket.socket, unanswered_ms: int) -> None:
    """Set what a telemetry connection needs.

    No Nagle delay before a press; at most a few packets wait unsent in the kernel, where nothing can overtake
    them; and bytes that the peer does not acknowledge for `unanswered_ms`, 15 s at most, end the connection.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        most_ms = min(unanswered_ms, _UNANSWERED_MS_MOST)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, most_ms)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


UNSENT_BYTES = 16_384
"""One full TLS record: enough to keep the wire busy, little for a press to wait behind."""


def certificate_expires_unix_s(sock: ssl.SSLSocket) -> int | None:
    """When the peer's verified certificate ends, in Unix seconds."""
    end = (sock.getpeercert() or {}).get("notAfter")
    return round(ssl.cert_time_to_seconds(end)) if isinstance(end, str) else None


async def reachable(host: str, port: int, timeout_s: float) -> bool:
    """Whether something accepts TCP connections there."""
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:  # TimeoutError is one
        return False
    writer.transport.abort()
    return True
