"""A decoder as JSON: how the compiler hands it over, and how it is kept."""

from __future__ import annotations

import json
from typing import Any

from agent.sources.can.can_decoder import (
    BitField,
    CanDecoder,
    MessageLayout,
    MultiplexCondition,
    SignalLayout,
)


def to_json(decoder: CanDecoder) -> str:
    """The decoder as JSON."""
    table = {"protocol": decoder.protocol, "messages": [_message_table(one) for one in decoder.messages]}
    return json.dumps(table, separators=(",", ":"))


def from_json(text: str) -> CanDecoder:
    """The decoder that `to_json` wrote. Raises ValueError, TypeError or LookupError for anything else."""
    table = json.loads(text)
    return CanDecoder([_message(one) for one in table["messages"]], table["protocol"])


def _message_table(message: MessageLayout) -> dict[str, Any]:
    return {
        "name": message.name,
        "can_id": message.can_id,
        "extended": message.extended,
        "length": message.length,
        "signals": [_signal_table(signal) for signal in message.signals],
        "used_bits": message.used_bits,
        "has_big_endian": message.has_big_endian,
        "source_address": message.source_address,
    }


def _message(table: dict[str, Any]) -> MessageLayout:
    return MessageLayout(**table | {"signals": tuple(_signal(one) for one in table["signals"])})


def _signal_table(signal: SignalLayout) -> dict[str, Any]:
    return {
        "name": signal.name,
        "unit": signal.unit,
        "bits": _bits_list(signal.bits),
        "sign_bit": signal.sign_bit,
        "float_format": signal.float_format,
        "scale": signal.scale,
        "offset": signal.offset,
        "decimals": signal.decimals,
        # Pairs, for JSON's keys are text.
        "values": list(signal.values.items()),
        "only_values": signal.only_values,
        "highest_raw": signal.highest_raw,
        "conditions": [[_bits_list(one.selector), sorted(one.ids)] for one in signal.conditions],
        "deadband": signal.deadband,
        "min_interval_ns": signal.min_interval_ns,
        "lowest": signal.lowest,
        "highest": signal.highest,
        "steps": signal.steps,
    }


def _signal(table: dict[str, Any]) -> SignalLayout:
    float_format = table["float_format"]
    return SignalLayout(
        **table
        | {
            "bits": BitField(*table["bits"]),
            "float_format": None if float_format is None else tuple(float_format),
            "values": dict(table["values"]),
            "steps": tuple((lowest, called) for lowest, called in table["steps"]),
            "conditions": tuple(
                MultiplexCondition(BitField(*selector), frozenset(ids))
                for selector, ids in table["conditions"]
            ),
        }
    )


def _bits_list(bits: BitField) -> list[Any]:
    return [bits.shift, bits.mask, bits.big_endian]
