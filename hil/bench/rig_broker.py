"""The broker of the benchmarks: a real mosquitto, set up as the project ships it."""

from __future__ import annotations

from pathlib import Path

from hil.bench.setting import NotHereError
from hil.broker_process import BrokerOptions, Mosquitto, find_mosquitto


def mosquitto(folder: Path, options: BrokerOptions | None = None) -> Mosquitto:
    """A broker, not started yet. Raises NotHereError; the embedded one would only measure itself."""
    if find_mosquitto() is None:
        raise NotHereError("mosquitto is not installed (apt-get install mosquitto)")
    return Mosquitto(folder, options or BrokerOptions())
