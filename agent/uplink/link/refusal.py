"""What a broker means when it says no: the reason codes of MQTT 5.0 (2.4) that we act on."""

from __future__ import annotations

from agent.uplink.link.link import Closed

FAILURE = 0x80
"""Reason codes from here on are failures."""
NO_MATCHING_SUBSCRIBERS = 0x10
UNSPECIFIED = 0x80
MALFORMED_PACKET = 0x81
PROTOCOL_ERROR = 0x82
IMPLEMENTATION_SPECIFIC = 0x83
UNSUPPORTED_VERSION = 0x84
NOT_AUTHORISED = 0x87
SERVER_UNAVAILABLE = 0x88
SERVER_BUSY = 0x89
SERVER_SHUTTING_DOWN = 0x8B
KEEP_ALIVE_TIMEOUT = 0x8D
SESSION_TAKEN_OVER = 0x8E
PACKET_TOO_LARGE = 0x95
RETAIN_NOT_SUPPORTED = 0x9A
MESSAGE_RATE_TOO_HIGH = 0x96
QUOTA_EXCEEDED = 0x97
ADMINISTRATIVE_ACTION = 0x98
USE_ANOTHER_SERVER = 0x9C
SERVER_MOVED = 0x9D
CONNECTION_RATE_EXCEEDED = 0x9F

_PASSING = frozenset(
    {
        0x00,
        UNSPECIFIED,
        SERVER_UNAVAILABLE,
        SERVER_BUSY,
        SERVER_SHUTTING_DOWN,
        KEEP_ALIVE_TIMEOUT,
        MESSAGE_RATE_TOO_HIGH,
        QUOTA_EXCEEDED,
        ADMINISTRATIVE_ACTION,
        CONNECTION_RATE_EXCEEDED,
    }
)
"""Nothing is wrong with what we are or said: the broker can not serve us now."""


_OVER_WHAT_WE_SENT = frozenset(
    {UNSPECIFIED, MALFORMED_PACKET, PROTOCOL_ERROR, IMPLEMENTATION_SPECIFIC, PACKET_TOO_LARGE}
)
"""What a broker may say that ends a connection for a packet that it finds too large."""


def closed_by_reason(endpoint: str, code: int, words: str, server_reference: str | None) -> Closed:
    """What a CONNACK or DISCONNECT with a reason code amounts to.

    Args:
        endpoint: "host:port" for the sentence.
        code: the reason code.
        words: its name.
        server_reference: MQTT 5 server reference, a list of "host" or "host:port" separated by spaces.
    """
    if code in (USE_ANOTHER_SERVER, SERVER_MOVED):
        moved_to = (server_reference or "").split(" ")[0] or None
        detail = f"{endpoint}: sends us to {moved_to or 'another server'}"
        return Closed("broker_unreachable", detail, moved_to, said_no=True)
    detail = f"{endpoint}: {words.lower()} (0x{code:02x})"
    if code == SESSION_TAKEN_OVER:
        detail += "; another client uses the same client identifier"
    reason = "broker_unreachable" if code in _PASSING else "broker_refused"
    return Closed(
        reason,
        detail,
        hung_up=code in _OVER_WHAT_WE_SENT,
        taken_over=code == SESSION_TAKEN_OVER,
        said_no=True,
    )
