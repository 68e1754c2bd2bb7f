"""Puts into a persist-queue SQLite queue. Lines in: "each N SIZE" or "group N SIZE"; JSON lines out."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def main() -> None:
    """Answer until standard input ends."""
    import persistqueue  # type: ignore[import-not-found, import-untyped, unused-ignore]  # only in its own environment

    def open_queue(name: str, *, auto_commit: bool) -> Any:
        # Records are bytes already: without the default pickling it is at its best.
        return persistqueue.SQLiteQueue(name, auto_commit=auto_commit, serializer=_Plain)

    each, group = open_queue("each", auto_commit=True), open_queue("group", auto_commit=False)
    _say({"ready": True})
    for line in sys.stdin:
        way, count, size = line.split()
        record = os.urandom(int(size))
        begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
        if way == "each":
            for _ in range(int(count)):
                each.put(record)
        else:
            for _ in range(int(count)):
                group.put(record)
            group.task_done()
        _say({"wall_s": time.perf_counter() - begun_s, "cpu_s": time.process_time() - begun_cpu_s})


class _Plain:
    """A serializer that leaves bytes as they are."""

    @staticmethod
    def dumps(value: bytes) -> bytes:
        """Nothing to do."""
        return value

    @staticmethod
    def loads(value: bytes) -> bytes:
        """Nothing to do."""
        return value


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
