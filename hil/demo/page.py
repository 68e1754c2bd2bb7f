"""Dispatch's own service beside the demo: its page, its receipts, and a call that it assigns."""

from __future__ import annotations

import sqlite3
import threading
import urllib.error
from pathlib import Path

from hil.dispatch_process import DispatchProcess

STREETS = Path(__file__).resolve().parents[3] / "shared" / "feeds" / "boston" / "boston_streets.geojson"
KNOWN_WITHIN_S = 20.0
CALL = {
    "incident": "26-000117",
    "priority": "1",
    "response_mode": "lights_and_siren",
    "nature": "Chest pain",
    "address": "700 Boylston St",
    "notes": "Third floor, the lift is out of order",
}


class DemoPage:
    """Blocking calls.

    Args:
        directory: for the store and the log.
        broker_url: the demo's broker.
    """

    def __init__(self, directory: Path, broker_url: str) -> None:
        options = ["--simulated-time"]
        if STREETS.is_file():
            options += ["--streets", str(STREETS)]
        self._service = DispatchProcess(directory, broker_url, options=options)
        self._stopped = threading.Event()

    @property
    def address(self) -> str:
        """What to open in a browser; it lets in whoever has it."""
        return self._service.page

    def start(self) -> None:
        """Start the service. Raises RuntimeError with what it logged when it does not come up."""
        self._service.start()

    def stop(self) -> None:
        """End it. Idempotent."""
        self._stopped.set()
        self._service.stop()

    def assign(self, agency: str, unit: str) -> bool:
        """Give the unit a call as soon as the service knows it; False when it never does."""
        for _ in range(round(KNOWN_WITHIN_S / 0.1)):
            try:
                self._service.ask(f"/api/v1/units/{agency}/{unit}/assign", CALL)
            except urllib.error.HTTPError as error:
                error.close()
            except (urllib.error.URLError, OSError):
                return False
            else:
                return True
            if self._stopped.wait(0.1):
                return False
        return False

    def stored(self, unit: str) -> int:
        """Records of a unit that the service has on its disk."""
        connection = sqlite3.connect(f"file:{self._service.store}?mode=ro", uri=True)
        try:
            count = connection.execute(
                "SELECT count(*) FROM records JOIN units ON units.unit_id = records.unit_id WHERE unit = ?",
                (unit,),
            ).fetchone()
        finally:
            connection.close()
        return int(count[0])
