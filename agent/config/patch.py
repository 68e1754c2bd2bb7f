"""What may be changed from afar, and how a patch lies over the vehicle's own file.

A patch is a table of tables down to values, as the file is; a list is patched by the index of its members, as
text: `{"uplink": {"brokers": {"0": {"port": 8884}}}}`. What is not listed here can not be patched: who the
unit is, its secrets, its certificates, where things lie, what is connected, and what may be done from afar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from agent.config.plain_words import did_you_mean

Patch = Mapping[str, Any]

_RULES: Final = (
    "reporting.*",
    "driving.*",
    "impact.{keep,before_s,after_s,acceleration_mps2,speed_step_mps}",
    "watch.#.{low,high,dwell_s,hysteresis}",
    "crew.{undo_s,remind_after_s,keep_calls_h,hints,capabilities}",
    "buttons.stuck_after_s",
    "uplink.brokers.#.{host,port}",
    "uplink.{keepalive_s,connect_timeout_s,window,batch_records,batch_bytes,max_packet_bytes,drain_bytes_per_s}",
    "uplink.{reconnect_min_s,reconnect_max_s,fail_over_after_s,return_after_s,position_expiry_s,will_delay_s}",
    "device.#.{baud,bitrate,silent_after_s,stale_after_s,interval_s,debounce_ms,settle_s}",
    "store.{budget_mib,replay_budget_mib,replay_days,group_commit_s}",
    "recorder.{budget_mib,file_mib}",
    "log.level",
    "clock.ntp",
)
"""Keys that may be patched: `*` is any one key, `#` any index."""


def _expression(rule: str) -> str:
    escaped = re.escape(rule).replace(r"\*", "[^.]+").replace(r"\#", "[0-9]{1,3}")
    return re.sub(r"\\{(.*?)\\}", lambda found: f"(?:{found[1].replace(',', '|')})", escaped)


_PATCHABLE: Final = re.compile("|".join(_expression(rule) for rule in _RULES))
_BROKER_HOST: Final = re.compile(r"uplink\.brokers\.([0-9]+)\.host")


class PatchError(ValueError):
    """The patch can not be applied; the text says which key, and why."""


def leaves(patch: Patch, where: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything that a patch sets."""
    for key, value in patch.items():
        place = f"{where}.{key}" if where else str(key)
        if isinstance(value, Mapping):
            yield from leaves(value, place)
        else:
            yield place, value


def joined(kept: Patch, patch: Patch) -> dict[str, Any]:
    """What holds once `patch` came on top of `kept`: null gives a key back to the file."""
    result = dict(kept)
    for key, value in patch.items():
        if isinstance(value, Mapping):
            before = result.get(key)
            inner = joined(before if isinstance(before, Mapping) else {}, value)
            if inner:
                result[key] = inner
            else:
                result.pop(key, None)
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = value
    return result


def laid_over(own: Mapping[str, Any], patch: Patch) -> dict[str, Any]:
    """The table of the configuration with the patch over it. Raises PatchError; it is not validated yet."""
    for place, value in leaves(patch):
        if not _PATCHABLE.fullmatch(place):
            raise PatchError(f"{place}: can not be changed from afar")
        if broker := _BROKER_HOST.fullmatch(place):
            _check_host(own, int(broker[1]), value)
    result = _over(own, patch, "")
    assert isinstance(result, dict)
    return result


def _over(own: Any, patch: Patch, where: str) -> Any:
    if isinstance(own, list):
        members = list(own)
        for key, value in patch.items():
            if not key.isdecimal() or int(key) >= len(members):
                raise PatchError(f"{where}.{key}: the file has {len(members)} of them, counted from 0")
            members[int(key)] = _over(members[int(key)], value, f"{where}.{key}")
        return members
    if own is not None and not isinstance(own, dict):
        raise PatchError(f"{where}: a value, where the patch has a table")
    result = dict(own or {})
    for key, value in patch.items():
        place = f"{where}.{key}" if where else key
        result[key] = _over(result.get(key), value, place) if isinstance(value, Mapping) else value
    return result


def _check_host(own: Mapping[str, Any], index: int, host: Any) -> None:
    """A password is shown to whoever answers: so only to hosts that the vehicle's own file names."""
    brokers = own.get("uplink", {}).get("brokers", [])
    if index >= len(brokers) or "password" not in brokers[index]:
        return
    known = {name for one in brokers for name in (one.get("host"), *one.get("redirect_hosts", ()))}
    if host not in known:
        hint = did_you_mean(host, sorted(map(str, known)))
        raise PatchError(
            f"uplink.brokers.{index}.host: its password is shown only to hosts that the vehicle's file names "
            f"(host, redirect_hosts){hint}"
        )
