"""Interfaces, addresses and routes of this computer, as the kernel tells of them (rtnetlink(7)).

The kernel repeats itself: a router advertisement renews addresses and routes that are there already,
statistics of an interface are told as if it had changed. So what is there is remembered, from a dump at the
beginning, and only what differs is a change. CAN interfaces and loopback do not count: no broker is reached
through them.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import struct
import sys
from collections.abc import Iterator, Sequence

from agent.hal.errors import DeviceLostError, DeviceNotFoundError
from agent.hal.network import NetworkChange

_NAME = "netlink"
_RTMGRP_LINK, _RTMGRP_IPV4_IFADDR, _RTMGRP_IPV4_ROUTE = 0x1, 0x10, 0x40
_RTMGRP_IPV6_IFADDR, _RTMGRP_IPV6_ROUTE = 0x100, 0x400
_GROUPS = _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV4_ROUTE | _RTMGRP_IPV6_IFADDR | _RTMGRP_IPV6_ROUTE

_ERROR, _DONE = 2, 3
_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_REQUEST_DUMP = 0x1 | 0x300
"""NLM_F_REQUEST and NLM_F_DUMP."""

_HEADER = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence number, port."""
_LINK = struct.Struct("=BxHiII")
"""ifinfomsg: family, ARPHRD type, index, flags, change mask."""
_ADDRESS = struct.Struct("=BBBBI")
"""ifaddrmsg: family, prefix length, flags, scope, index."""
_ROUTE = struct.Struct("=BBBBBBBBI")
"""rtmsg: family, dst and src length, tos, table, protocol, scope, type, flags."""
_ATTRIBUTE = struct.Struct("=HH")
"""rtattr: length, type."""

_IFLA_IFNAME = 3
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_TABLE = 1, 4, 5, 6, 15
_IFF_RUNNING = 0x40
_ARPHRD_CAN, _ARPHRD_LOOPBACK = 280, 772
_RTN_UNICAST = 1
_RTM_F_CLONED = 0x200
_READ_BYTES = 65_536
_DUMP_WITHIN_S = 2.0

Key = tuple[object, ...]


class NetlinkFeed:
    """Changes of this computer's network; implements `agent.hal.network.NetworkFeed`."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._there: dict[Key, str] = {}
        """What is there, and how to call it."""
        self._ignored: set[int] = set()
        """Indexes of interfaces that do not count."""

    @property
    def name(self) -> str:
        """What the feed reads."""
        return _NAME

    async def open(self) -> None:
        """Listen, and learn what is there. Raises DeviceNotFoundError."""
        try:
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        except OSError as error:
            raise DeviceNotFoundError(_NAME, error.strerror or str(error)) from error
        self._socket = sock
        try:
            sock.bind((0, _GROUPS))
            self._there.clear()
            self._ignored.clear()
            for request in (_GETLINK, _GETADDR, _GETROUTE):
                self._dump(request)
        except OSError as error:
            await self.close()
            raise DeviceNotFoundError(_NAME, error.strerror or str(error)) from error

    async def read(self) -> Sequence[NetworkChange]:
        """Wait for a change. Raises DeviceLostError."""
        loop = asyncio.get_running_loop()
        while True:
            sock = self._socket
            if sock is None:
                raise DeviceLostError(_NAME, "it is closed")
            try:
                data = await loop.sock_recv(sock, _READ_BYTES)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise DeviceLostError(_NAME, error.strerror or str(error)) from error
                return [NetworkChange("more changes than the kernel could tell")]
            changes = [NetworkChange(what) for what in self._take(data)]
            if changes:
                return changes

    async def close(self) -> None:
        """Listen no more."""
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()

    def _dump(self, request: int) -> None:
        """Remember all that is there of one sort."""
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
            sock.settimeout(_DUMP_WITHIN_S)
            sock.bind((0, 0))
            body = bytes(_LINK.size)
            sock.send(_HEADER.pack(_HEADER.size + len(body), request, _REQUEST_DUMP, 1, 0) + body)
            while True:
                data = sock.recv(_READ_BYTES)
                list(self._take(data))
                if any(kind in (_DONE, _ERROR) for kind, _ in _messages(data)):
                    return

    def _take(self, data: bytes) -> Iterator[str]:
        """What of a datagram is news."""
        for kind, body in _messages(data):
            try:
                if kind in (_NEWLINK, _DELLINK):
                    found = self._link(kind, body)
                elif kind in (_NEWADDR, _DELADDR):
                    found = self._address(kind, body)
                elif kind in (_NEWROUTE, _DELROUTE):
                    found = self._route(kind, body)
                else:
                    continue
            except (struct.error, ValueError):
                continue  # a kernel of the future; what it says there has no name here
            if found is not None:
                yield from self._note(*found)

    def _note(self, key: Key, what: str, there: bool) -> Iterator[str]:
        if there == (key in self._there):
            return
        if there:
            self._there[key] = what
            yield f"{what} {'up' if key[0] == 'link' else 'new'}"
        else:
            yield f"{self._there.pop(key)} {'down' if key[0] == 'link' else 'gone'}"

    def _link(self, kind: int, body: bytes) -> tuple[Key, str, bool] | None:
        _, hardware, index, flags, _ = _LINK.unpack_from(body)
        if hardware in (_ARPHRD_CAN, _ARPHRD_LOOPBACK):
            self._ignored.add(index)
            return None
        name = _attributes(body[_LINK.size :]).get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
        return ("link", index), name, kind == _NEWLINK and bool(flags & _IFF_RUNNING)

    def _address(self, kind: int, body: bytes) -> tuple[Key, str, bool] | None:
        _, _, _, _, index = _ADDRESS.unpack_from(body)
        attributes = _attributes(body[_ADDRESS.size :])
        raw = attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS, b""))
        address = ipaddress.ip_address(raw)
        if index in self._ignored or address.is_link_local:
            return None
        return ("address", index, raw), f"address {address}", kind == _NEWADDR

    def _route(self, kind: int, body: bytes) -> tuple[Key, str, bool] | None:
        family, length, _, _, table, _, _, sort, flags = _ROUTE.unpack_from(body)
        attributes = _attributes(body[_ROUTE.size :])
        output = int.from_bytes(attributes.get(_RTA_OIF, b""), sys.byteorder)
        if sort != _RTN_UNICAST or flags & _RTM_F_CLONED or output in self._ignored:
            return None
        raw = attributes.get(_RTA_DST, b"")
        target = str(ipaddress.ip_address(raw)) if raw else "default"
        if raw and ipaddress.ip_address(raw).is_link_local:
            return None
        parts = tuple(attributes.get(one) for one in (_RTA_TABLE, _RTA_GATEWAY, _RTA_PRIORITY))
        return ("route", family, length, table, raw, output, *parts), f"route {target}", kind == _NEWROUTE


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each message of a datagram; they begin at multiples of four bytes."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size or at + length > len(data):
            return
        yield kind, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def _attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by type; the first of a type counts."""
    found: dict[int, bytes] = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size or at + length > len(data):
            break
        found.setdefault(kind, data[at + _ATTRIBUTE.size : at + length])
        at += (length + 3) & ~3
    return found
