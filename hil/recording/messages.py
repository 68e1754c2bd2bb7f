"""Items as messages of a recording, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mcap.records import Message

from agent.recorder import recording_format as form
from hil.drive.items import (
    ButtonItem,
    CanItem,
    ClockItem,
    CoverageItem,
    IgnitionItem,
    NmeaItem,
    SampleItem,
    TimedItem,
    TruthItem,
)
from hil.drive.route import Sky

_TRUTH_FIELDS = tuple(name for name in TruthItem.__slots__ if name != "t_ns")


def message_of(item: TimedItem) -> tuple[str, bytes]:
    """Topic and payload of an item."""
    if isinstance(item, CanItem):
        return form.CAN_TOPIC_PREFIX + item.bus, form.pack_can(item.can_id, item.extended, item.data)
    if isinstance(item, SampleItem):
        payload = form.pack_json(signal=item.signal, value=item.value, unit=item.unit)
        return item.device + form.SAMPLES_SUFFIX, payload
    topic, pack = _PACK[type(item)]
    return topic, pack(item)


def item_of(topic: str, message: Message) -> TimedItem | None:
    """The item that a message is, None when its topic is not of this format.

    Raises:
        ValueError, KeyError, TypeError: the payload is not as its channel says.
    """
    if topic.startswith(form.CAN_TOPIC_PREFIX):
        can_id, extended, data = form.unpack_can(message.data)
        return CanItem(message.log_time, topic.removeprefix(form.CAN_TOPIC_PREFIX), can_id, extended, data)
    if topic.endswith(form.SAMPLES_SUFFIX):
        sample = form.unpack_json(message.data)
        device = topic.removesuffix(form.SAMPLES_SUFFIX)
        return SampleItem(message.log_time, device, sample["signal"], sample["value"], sample["unit"])
    unpack = _UNPACK.get(topic) or _UNPACK_BY_SUFFIX.get("/" + topic.rpartition("/")[2])
    return None if unpack is None else unpack(message)


def _pack_edge(item: ButtonItem) -> bytes:
    return form.pack_json(
        key=item.key,
        pressed=item.pressed,
        device_session=item.device_session,
        device_seq=item.device_seq,
        inferred=False,
    )


def _pack_clock(item: ClockItem) -> bytes:
    return form.pack_json(
        unix_ms=item.unix_ms, synchronised=item.synchronised, max_error_ms=item.max_error_ms
    )


def _pack_truth(item: TruthItem) -> bytes:
    return form.pack_json(**{name: getattr(item, name) for name in _TRUTH_FIELDS})


_PACK: Mapping[type, tuple[str, Callable[[Any], bytes]]] = {
    NmeaItem: (form.NMEA_TOPIC, lambda item: form.pack_nmea(item.data)),
    ButtonItem: (form.BUTTONS_TOPIC, _pack_edge),
    IgnitionItem: (form.IGNITION_TOPIC, lambda item: form.pack_json(on=item.on)),
    ClockItem: (form.CLOCK_TOPIC, _pack_clock),
    CoverageItem: (form.COVERAGE_TOPIC, lambda item: form.pack_json(covered=item.covered)),
    TruthItem: (form.TRUTH_TOPIC, _pack_truth),
}


def _edge(message: Message) -> ButtonItem:
    edge = form.unpack_json(message.data)
    return ButtonItem(
        t_ns=message.log_time,
        key=edge["key"],
        pressed=edge["pressed"],
        device_session=edge["device_session"],
        device_seq=edge["device_seq"],
        at_ns=message.publish_time,
    )


def _clock(message: Message) -> ClockItem:
    clock = form.unpack_json(message.data)
    return ClockItem(message.log_time, clock["unix_ms"], clock["synchronised"], clock["max_error_ms"])


def _truth(message: Message) -> TruthItem:
    truth = form.unpack_json(message.data)
    truth["sky"] = Sky(truth["sky"])
    return TruthItem(message.log_time, **truth)


_UNPACK: Mapping[str, Callable[[Message], TimedItem]] = {
    form.IGNITION_TOPIC: lambda message: IgnitionItem(message.log_time, form.unpack_json(message.data)["on"]),
    form.CLOCK_TOPIC: _clock,
    form.COVERAGE_TOPIC: lambda message: CoverageItem(
        message.log_time, form.unpack_json(message.data)["covered"]
    ),
    form.TRUTH_TOPIC: _truth,
}
_UNPACK_BY_SUFFIX: Mapping[str, Callable[[Message], TimedItem]] = {
    form.NMEA_SUFFIX: lambda message: NmeaItem(message.log_time, form.unpack_nmea(message.data)),
    form.EDGES_SUFFIX: _edge,
}
