"""What a trail at 1 Hz costs the memory card, counted at the block device of a real kernel."""

from __future__ import annotations

from hil.bench.figure import Figure, Target
from hil.bench.setting import NotHereError, Setting
from hil.kernel.linux import RigUnavailable, find_linux
from hil.kernel.wear import measure_wear

DRIVE_S = 3600
DEFAULT_GROUP_S = 10
EACH_S = 0.05
"""Less than the records are apart: a commit a record."""
PEER = "a commit a record"
BYTES_TARGET = Target(2000, at_most=True)
FLUSHES_TARGET = Target(0.12, at_most=True)


def measure(setting: Setting) -> list[Figure]:
    """Bytes and flushes a position; counted, not timed, so once is enough."""
    drive_s = setting.count(DRIVE_S, least=60)
    try:
        linux = find_linux(purpose_built=True)
        setting.say(f"card: {drive_s} s of driving, twice, in leaping time")
        ours = measure_wear(linux, duration_s=drive_s, group_commit_s=DEFAULT_GROUP_S)
        theirs = measure_wear(linux, duration_s=drive_s, group_commit_s=EACH_S)
    except RigUnavailable as reason:
        raise NotHereError(str(reason)) from reason
    size, flushes = "bytes_per_record", "flushes_per_record"
    return [
        Figure("card.bytes", ours[size], "bytes a position", PEER, theirs[size], BYTES_TARGET),
        Figure("card.flushes", ours[flushes], "flushes a position", PEER, theirs[flushes], FLUSHES_TARGET),
    ]
