"""What is in a recording: channels, their schemas, and the bytes of each message.

A recording is an MCAP file. log_time is the CLOCK_BOOTTIME, in ns, at which the agent read the item;
publish_time is when the item itself says that it happened, where it tells. Feeds with many messages use the
ROS 1 encoding, which is a packed little-endian structure that viewers can decode; the others are JSON.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

FORMAT_VERSION = "1"
METADATA_NAME = "mdt"
"""Name of the metadata record: format, unit, boot_id, agent_version and what else the maker tells."""

NMEA_SUFFIX = "/nmea"
"""Behind the name of a receiver."""
CAN_TOPIC_PREFIX = "can/"
EDGES_SUFFIX = "/edges"
"""Behind the name of a crew panel."""
SAMPLES_SUFFIX = "/samples"
"""Behind the name of a sensor."""
NMEA_TOPIC = "gnss" + NMEA_SUFFIX
BUTTONS_TOPIC = "buttons" + EDGES_SUFFIX
IGNITION_TOPIC = "ignition/edges"
CLOCK_TOPIC = "clock/state"
RECORDER_TOPIC = "recorder/state"
KEPT_TOPIC = "kept/state"
"""In a recording that was kept: what for, and at its end that it is whole."""
SIGNALS_TOPIC = "vehicle/signals"
"""In a recording that was kept: vehicle signals as they were told, by name."""
TRUTH_TOPIC = "truth/state"
COVERAGE_TOPIC = "truth/coverage"

_CAN_HEAD = struct.Struct("<IBI")
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Schema:
    """How messages of a channel are encoded.

    Attributes:
        name: of the type.
        encoding: MCAP schema encoding.
        message_encoding: MCAP message encoding.
        text: the schema itself.
    """

    name: str
    encoding: str
    message_encoding: str
    text: str


def _json_schema(name: str, **fields: str | tuple[str, ...]) -> Schema:
    properties = {
        key: {"type": list(kind) if isinstance(kind, tuple) else kind} for key, kind in fields.items()
    }
    text = json.dumps({"title": name, "type": "object", "properties": properties}, separators=(",", ":"))
    return Schema(name, "jsonschema", "json", text)


NMEA_SCHEMA = Schema(
    "mdt/NmeaBytes",
    "ros1msg",
    "ros1",
    "# Bytes as one read of the receiver gave them; cut anywhere.\nuint8[] data\n",
)
CAN_SCHEMA = Schema(
    "mdt/CanFrame",
    "ros1msg",
    "ros1",
    "# A data frame heard on the bus; extended tells a 29-bit identifier.\n"
    "uint32 can_id\nbool extended\nuint8[] data\n",
)
EDGE_SCHEMA = _json_schema(
    "mdt/ButtonEdge",
    key="string",
    pressed="boolean",
    device_session=("integer", "null"),
    device_seq=("integer", "null"),
    inferred="boolean",
)
SAMPLE_SCHEMA = _json_schema(
    "mdt/Sample",
    signal="string",
    value=("number", "string", "boolean", "null"),
    unit=("string", "null"),
)
SCHEMAS = {
    IGNITION_TOPIC: _json_schema("mdt/Ignition", on="boolean"),
    CLOCK_TOPIC: _json_schema(
        "mdt/SystemClock", unix_ms="integer", synchronised="boolean", max_error_ms="integer"
    ),
    RECORDER_TOPIC: _json_schema("mdt/Recorder", dropped="integer"),
    KEPT_TOPIC: _json_schema("mdt/Kept", trigger="string", why="string", end="boolean"),
    SIGNALS_TOPIC: _json_schema("mdt/Signals"),
    TRUTH_TOPIC: _json_schema(
        "mdt/Truth",
        utc_ms="integer",
        lat_deg="number",
        lon_deg="number",
        speed_mps="number",
        course_deg="number",
        status="string",
        activity="string",
        sky="string",
        odometer_m="number",
        has_fix="boolean",
    ),
    COVERAGE_TOPIC: _json_schema("mdt/Coverage", covered="boolean"),
}


def schema_of(topic: str) -> Schema:
    """The schema of a channel. Raises KeyError for a topic that is not of this format."""
    if topic in SCHEMAS:
        return SCHEMAS[topic]
    if topic.startswith(CAN_TOPIC_PREFIX):
        return CAN_SCHEMA
    return _BY_SUFFIX["/" + topic.rpartition("/")[2]]


_BY_SUFFIX = {NMEA_SUFFIX: NMEA_SCHEMA, EDGES_SUFFIX: EDGE_SCHEMA, SAMPLES_SUFFIX: SAMPLE_SCHEMA}


def pack_nmea(data: bytes) -> bytes:
    """A message of the channel gnss/nmea."""
    return _LENGTH.pack(len(data)) + data


def unpack_nmea(message: bytes) -> bytes:
    """The inverse of `pack_nmea`. Raises ValueError."""
    return _counted(message, _LENGTH.size - 4)


def pack_can(can_id: int, extended: bool, data: bytes) -> bytes:
    """A message of a channel can/<bus>."""
    return _CAN_HEAD.pack(can_id, extended, len(data)) + data


def unpack_can(message: bytes) -> tuple[int, bool, bytes]:
    """The inverse of `pack_can`. Raises ValueError."""
    data = _counted(message, _CAN_HEAD.size - 4)
    can_id, extended, _ = _CAN_HEAD.unpack_from(message)
    return can_id, bool(extended), data


def pack_json(**fields: Any) -> bytes:
    """A message of the other channels; fields as in the channel's schema."""
    return json.dumps(fields, separators=(",", ":")).encode()


def unpack_json(message: bytes) -> dict[str, Any]:
    """The inverse of `pack_json`. Raises ValueError."""
    fields = json.loads(message)
    if not isinstance(fields, dict):
        raise ValueError("not an object")  # noqa: TRY004 - the content is wrong, not an argument's type
    return fields


def _counted(message: bytes, at: int) -> bytes:
    """The byte array whose count stands at `at` and which ends the message."""
    if len(message) < at + _LENGTH.size:
        raise ValueError("the message is too short")
    (count,) = _LENGTH.unpack_from(message, at)
    data = message[at + _LENGTH.size :]
    if len(data) != count:
        raise ValueError(f"the message has {len(data)} bytes of data instead of {count}")
    return data
