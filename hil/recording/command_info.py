"""python -m hil info: channels, times, rates and gaps of a recording."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hil.drive.items import TimedItem
from hil.recording.mcap_file import RecordingReader
from hil.recording.messages import message_of

GAPS_SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a recording (.mcap)")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.add_argument(
        "--gap", type=float, default=2.0, metavar="SECONDS", help="silence from which on it is a gap (2)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; 0 when all of the file could be read, 1 when it is damaged, 2 when there is none."""
    try:
        info = describe(args.file, gap_s=args.gap)
    except OSError as error:
        print(f"{args.file}: can not be read: {error.strerror}", file=sys.stderr)
        return 2
    print(json.dumps(info) if args.json else _text(info))
    if info["damage"] is not None:
        print(f"{args.file}: {info['damage']['message']}", file=sys.stderr)
        return 1
    return 0


@dataclass(slots=True)
class _Channel:
    count: int = 0
    size_bytes: int = 0
    first_ns: int = 0
    last_ns: int = 0
    longest_ns: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)

    def take(self, item: TimedItem, size_bytes: int, gap_ns: int) -> None:
        """Count an item."""
        if self.count == 0:
            self.first_ns = item.t_ns
        else:
            silence_ns = item.t_ns - self.last_ns
            self.longest_ns = max(self.longest_ns, silence_ns)
            if silence_ns > gap_ns:
                self.gaps.append((self.last_ns, item.t_ns))
        self.count += 1
        self.size_bytes += size_bytes
        self.last_ns = item.t_ns


def describe(path: Path, *, gap_s: float = 2.0) -> dict[str, Any]:
    """What is in a recording, as plain values for JSON; times in seconds of the agent's boot clock.

    Gaps are looked for in the channels that go on all the time: the receiver's and the buses'.

    Raises:
        OSError: the file can not be read.
    """
    reader = RecordingReader(path)
    channels: dict[str, _Channel] = {}
    for item in reader.items():
        topic, payload = message_of(item)
        steady = topic.startswith(("gnss/", "can/"))
        channel = channels.setdefault(topic, _Channel())
        channel.take(item, len(payload), round(gap_s * 1e9) if steady else sys.maxsize)
    found = reader.found
    starts = [channel.first_ns for channel in channels.values()]
    ends = [channel.last_ns for channel in channels.values()]
    damage = found.damage
    return {
        "file": str(path),
        "size_bytes": path.stat().st_size,
        "metadata": found.metadata,
        "start_s": min(starts) / 1e9 if starts else None,
        "end_s": max(ends) / 1e9 if ends else None,
        "duration_s": (max(ends) - min(starts)) / 1e9 if starts else 0.0,
        "channels": {topic: _channel(channel) for topic, channel in sorted(channels.items())},
        "unknown_channels": found.unknown,
        "undecodable_messages": found.bad,
        "damage": None
        if damage is None
        else {"offset": damage.offset, "why": damage.why, "message": str(damage)},
    }


def _channel(channel: _Channel) -> dict[str, Any]:
    span_s = (channel.last_ns - channel.first_ns) / 1e9
    return {
        "count": channel.count,
        "bytes": channel.size_bytes,
        "first_s": channel.first_ns / 1e9,
        "last_s": channel.last_ns / 1e9,
        "rate_hz": (channel.count - 1) / span_s if span_s > 0 else None,
        "longest_silence_s": channel.longest_ns / 1e9,
        "gaps": [{"from_s": start / 1e9, "to_s": end / 1e9} for start, end in channel.gaps],
    }


def _text(info: dict[str, Any]) -> str:
    lines = [f"{info['file']}: {info['size_bytes']} bytes, {info['duration_s']:.1f} s"]
    lines += [f"  {key}: {value}" for key, value in info["metadata"].items()]
    lines.append(
        f"  {'channel':<18} {'items':>8} {'per s':>8} {'first s':>10} {'last s':>10} {'silence s':>9}"
    )
    for topic, channel in info["channels"].items():
        rate = "" if channel["rate_hz"] is None else f"{channel['rate_hz']:.2f}"
        lines.append(
            f"  {topic:<18} {channel['count']:>8} {rate:>8} {channel['first_s']:>10.3f} "
            f"{channel['last_s']:>10.3f} {channel['longest_silence_s']:>9.3f}"
        )
        gaps = channel["gaps"]
        lines += [f"    gap from {gap['from_s']:.3f} to {gap['to_s']:.3f} s" for gap in gaps[:GAPS_SHOWN]]
        if len(gaps) > GAPS_SHOWN:
            lines.append(f"    and {len(gaps) - GAPS_SHOWN} more gaps")
    for topic, count in info["unknown_channels"].items():
        lines.append(f"  {topic:<18} {count:>8} (not of this format, not used)")
    for topic, count in info["undecodable_messages"].items():
        lines.append(f"  {topic}: {count} messages could not be decoded")
    return "\n".join(lines)
