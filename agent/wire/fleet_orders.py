"""What fleet services and dispatch tell the vehicle: payloads of `command/{name}` that are not for the crew.

A JSON object like those of `agent.wire.orders`, with three keys that all of them share: `id`, by which a
command that comes twice is done once; `by`, who gave it; `until`, an ISO 8601 time with an offset after which
it is not to be done any more. Unknown keys are ignored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from agent.wire import orders
from agent.wire.batch import CodecError
from agent.wire.unpacking import unpack

MOST_SIGNALS: Final = 50
MOST_SIGNALS_S: Final = 3_600
MOST_RATE_S: Final = 6 * 3_600
MOST_LEAVES: Final = 64
MOST_DEPTH: Final = 6
_MOST_TEXT: Final = 512
_ENVELOPE: Final = ("id", "by", "until")

PatchValue = Any
"""A patch: tables of tables down to values; a list is patched by the index of its members, as text."""


@dataclass(frozen=True, slots=True)
class SetRate:
    """`command/set-rate`: no report of the position is older than `every_s`, for `for_s` seconds."""

    every_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class SignalsWanted:
    """`command/signals`: the newest values of these signals, every `every_s` for `for_s` seconds."""

    names: tuple[str, ...]
    every_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class ServiceDone:
    """`command/service`: a service was done.

    Attributes:
        item: which counter begins anew.
        note: in words.
        odometer_m: at which reading, as the workshop wrote it down.
    """

    item: str
    note: str | None
    odometer_m: int | None


@dataclass(frozen=True, slots=True)
class ConfigPatch:
    """`command/config`: other values for keys of the configuration.

    Attributes:
        patch: what is to hold beside the vehicle's own file; null gives a key back to the file. Without any
            the file alone is to hold.
        confirm_within_s: so soon the link must be back, or the patch is taken back.
    """

    patch: Mapping[str, PatchValue]
    confirm_within_s: float


@dataclass(frozen=True, slots=True)
class Restart:
    """`command/restart`: the agent is to start anew."""

    reason: str | None


@dataclass(frozen=True, slots=True)
class Fetch:
    """`command/fetch`: a file in pieces, from a byte on; without a name, which there are.

    Attributes:
        what: `recording` or `bundle`.
        name: of the file; None for a list, or for a bundle that is to be made.
        offset: first byte that is wanted.
    """

    what: str
    name: str | None
    offset: int


@dataclass(frozen=True, slots=True)
class Keep:
    """`command/keep`: the vehicle's data around now becomes a recording; `why` is for who reads it later."""

    why: str | None


@dataclass(frozen=True, slots=True)
class Seen:
    """`command/acknowledge`: dispatch has seen an emergency or an alert.

    Attributes:
        journal: identity of the store whose number is meant.
        seq: in the events.
    """

    journal: int
    seq: int


@dataclass(frozen=True, slots=True)
class Order:
    """A command of any name.

    Attributes:
        id: empty when it has none, which only a command may that changes nothing.
        by: who gave it; None when it does not say.
        until_unix_ms: when it must not be done any more; None for never.
        digest: of what is asked, so that an id that is used for something else is told.
        what: the command's own part.
    """

    id: str
    by: str | None
    until_unix_ms: int | None
    digest: str
    what: Any = None


def _decode(read: Callable[[Mapping[str, Any]], Any], payload: bytes, *, needs_id: bool = True) -> Order:
    given = orders.json_object(payload)
    asked = {key: value for key, value in given.items() if key not in _ENVELOPE}
    until = orders.maybe_text(given, "until", 40)
    return Order(
        orders.some_text(given, "id", orders.MOST_ID)
        if needs_id
        else orders.maybe_text(given, "id", 64) or "",
        orders.maybe_text(given, "by", 64),
        None if until is None else orders.unix_ms_of(until),
        hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16],
        read(given),
    )


def _set_rate(given: Mapping[str, Any]) -> SetRate:
    return SetRate(_seconds(given, "every_s", 1, 3_600), _seconds(given, "for_s", 1, MOST_RATE_S))


def _signals(given: Mapping[str, Any]) -> SignalsWanted:
    names = given.get("names")
    if not isinstance(names, list) or not 1 <= len(names) <= MOST_SIGNALS:
        raise CodecError(f"names is no list of 1 to {MOST_SIGNALS} signals")
    if not all(isinstance(name, str) and 0 < len(name) <= 128 for name in names):  # noqa: PLR2004
        raise CodecError("names is no list of texts")
    return SignalsWanted(
        tuple(dict.fromkeys(names)),
        _seconds(given, "every_s", 1, 3_600),
        _seconds(given, "for_s", 1, MOST_SIGNALS_S),
    )


def _service(given: Mapping[str, Any]) -> ServiceDone:
    odometer_m = given.get("odometer_m")
    return ServiceDone(
        orders.some_text(given, "item", 64),
        orders.maybe_text(given, "note", 200),
        None if odometer_m is None else orders.whole_number(given, "odometer_m", 1 << 40),
    )


def _config(given: Mapping[str, Any]) -> ConfigPatch:
    patch = given.get("patch")
    if not isinstance(patch, dict):
        raise CodecError("patch is no table")
    leaves = _leaves(patch, 0)
    if leaves > MOST_LEAVES:
        raise CodecError(f"a patch has at most {MOST_LEAVES} values")
    within = (
        300.0 if given.get("confirm_within_s") is None else _seconds(given, "confirm_within_s", 10, 3_600)
    )
    return ConfigPatch(patch, within)


def _leaves(value: Any, depth: int) -> int:
    if depth > MOST_DEPTH:
        raise CodecError("patch is nested too deep")
    if isinstance(value, dict):
        return sum(_leaves(one, depth + 1) for one in value.values())
    if isinstance(value, list):
        return 1 + sum(_leaves(one, depth + 1) for one in value)
    if isinstance(value, str) and len(value) > _MOST_TEXT:
        raise CodecError(f"a text of a patch has at most {_MOST_TEXT} characters")
    return 1


def _restart(given: Mapping[str, Any]) -> Restart:
    return Restart(orders.maybe_text(given, "reason", 200))


def _fetch(given: Mapping[str, Any]) -> Fetch:
    what = given.get("what")
    if what not in ("recording", "bundle"):
        raise CodecError("what must be recording or bundle")
    offset = 0 if given.get("offset") is None else orders.whole_number(given, "offset", 1 << 40)
    return Fetch(str(what), orders.maybe_text(given, "name", 128), offset)


def _keep(given: Mapping[str, Any]) -> Keep:
    return Keep(orders.maybe_text(given, "why", 300))


def _acknowledge(given: Mapping[str, Any]) -> Seen:
    return Seen(
        orders.whole_number(given, "journal", 1 << 32), orders.whole_number(given, "seq", orders.MOST_SEQ)
    )


def _nothing(_: Mapping[str, Any]) -> None:
    return None


def _decode_bare(payload: bytes) -> Order:
    """A command that needs nothing: an id when it has one, as a map in msgpack or JSON, or no byte at all."""
    if not payload:
        return Order("", None, None, "")
    if payload[:1] == b"{":
        return _decode(_nothing, payload, needs_id=False)
    given = unpack(payload)
    if not isinstance(given, dict):
        raise CodecError("a command is a map")
    return Order(orders.maybe_text(given, "id", orders.MOST_ID) or "", None, None, "")


def _seconds(given: Mapping[str, Any], name: str, least: float, most: float) -> float:
    value = given.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise CodecError(f"{name} is no number of seconds from {least:g} to {most:g}")
    return float(value)


DECODERS: Final[Mapping[str, Callable[[bytes], Order]]] = {
    "ping": _decode_bare,
    "report-now": _decode_bare,
    "diagnostics": partial(_decode, _nothing),
    "set-rate": partial(_decode, _set_rate),
    "signals": partial(_decode, _signals),
    "service": partial(_decode, _service),
    "config": partial(_decode, _config),
    "restart": partial(_decode, _restart),
    "fetch": partial(_decode, _fetch),
    "keep": partial(_decode, _keep),
    "acknowledge": partial(_decode, _acknowledge),
}
"""What reads the payload of each command. They raise CodecError on anything but a well-formed one."""
