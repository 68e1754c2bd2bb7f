"""Fills thingsboard-gateway's SQLite storage. Lines in: "fill N"; JSON lines out."""

from __future__ import annotations

import json
import logging
import sqlite3
import sys
import threading
import time
from contextlib import closing
from typing import Any

POLL_S = 0.01
FIRST_TS_MS = 1_700_000_000_000


def main() -> None:
    """Answer until standard input ends. The argument is the storage's folder."""
    from thingsboard_gateway.gateway.tb_gateway_service import (  # type: ignore[import-not-found, import-untyped, unused-ignore]  # only in its own environment
        TbLogger,
    )
    from thingsboard_gateway.storage.sqlite.sqlite_event_storage import (  # type: ignore[import-not-found, import-untyped, unused-ignore]  # only in its own environment
        SQLiteEventStorage,
    )

    logging.setLoggerClass(TbLogger)
    log = logging.getLogger("storage")
    log.setLevel(logging.ERROR)
    storage = SQLiteEventStorage({"data_file_path": sys.argv[1] + "/"}, log, threading.Event())
    pause = threading.Event()
    made = 0
    _say({"ready": True})
    for line in sys.stdin:
        count = int(line.split()[1])
        records = [_record(made + number) for number in range(count)]
        made += count
        begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
        for record in records:
            storage.put(record)
        put_s = time.perf_counter() - begun_s
        while _stored(sys.argv[1]) < made:
            pause.wait(POLL_S)
        _say(
            {
                "put_s": put_s,
                "wall_s": time.perf_counter() - begun_s,
                "cpu_s": time.process_time() - begun_cpu_s,
            }
        )
    storage.stop()


def _stored(folder: str) -> int:
    """Rows that reached the file; the storage's own count includes those in memory."""
    with closing(sqlite3.connect(f"file:{folder}/data.db?mode=ro", uri=True)) as reader:
        return int(reader.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()[0])


def _record(number: int) -> str:
    values = {
        "lat": 42.3601 + number * 1e-6,
        "lon": -71.0589,
        "alt": 12.3,
        "speed": 12.34,
        "course": 101.2,
        "mode": 3,
        "satellites": 9,
        "hdop": 0.9,
    }
    telemetry = {"ts": FIRST_TS_MS + number * 1000, "values": values}
    return json.dumps(
        {"deviceName": "A1", "deviceType": "default", "telemetry": [telemetry], "attributes": {}},
        separators=(",", ":"),
    )


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
