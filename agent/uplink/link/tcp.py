"""TCP and TLS connections that are opened within a deadline and can be given up from another thread."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import ssl
from time import monotonic


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
    """Open a non-blocking TCP connection to the first address of `host` that answers.

    Every address gets an equal share of what is left of `timeout_s`, so that a dead first one (an IPv6 route
    that leads nowhere) leaves time for the next. The look-up of the name can not be bounded or interrupted.

    Raises:
        OSError: no address could be reached (TimeoutError among them).
        InterruptedByCloseError: given up by the caller.
    """
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    deadline = monotonic() + timeout_s
    failure: OSError = OSError(f"no address for {host}")
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        share = (deadline - monotonic()) / (len(addresses) - index)
        sock = socket.socket(family, kind, protocol)
        try:
            _connect_one(sock, address, monotonic() + share, interrupt)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


def _connect_one(sock: socket.socket, address: object, deadline: float, interrupt: int) -> None:
    sock.setblocking(False)
    try:
        sock.connect(address)  # type: ignore[arg-type]  # getaddrinfo gives the family's own form
    except BlockingIOError:
        wait_for(sock.fileno(), select.POLLOUT, deadline, interrupt)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code)) from None


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
                wait_for(secured.fileno(), select.POLLIN, deadline, interrupt)
            except ssl.SSLWantWriteError:
                wait_for(secured.fileno(), select.POLLOUT, deadline, interrupt)
            else:
                return secured
    except BaseException:
        secured.close()
        raise


def tune(sock: socket.socket, unanswered_ms: int) -> None:
    """Set what a telemetry connection needs.

    No Nagle delay before a press; at most a few packets wait unsent in the kernel, where nothing can overtake
    them; and bytes that the peer does not acknowledge for `unanswered_ms` end the connection.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unanswered_ms)
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
