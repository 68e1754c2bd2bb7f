"""The broker of the benchmarks: a mosquitto as the project ships it, with somebody subscribed."""

from __future__ import annotations

from pathlib import Path

from hil.bench.setting import NotHereError
from hil.bench.subscriber import Subscriber
from hil.broker_process import BrokerOptions, Mosquitto, find_mosquitto


class HeardMosquitto(Mosquitto):
    """A broker that has somebody for every message; the subscriber comes and goes with it."""

    def __init__(self, directory: Path, options: BrokerOptions) -> None:
        super().__init__(directory, options)
        self._subscriber: Subscriber | None = None

    def start(self) -> None:
        """See `Broker.start`."""
        super().start()
        self._subscriber = Subscriber(self.host, self.port)

    def stop(self) -> None:
        """See `Broker.stop`."""
        subscriber, self._subscriber = self._subscriber, None
        if subscriber is not None:
            subscriber.close()
        super().stop()


def mosquitto(folder: Path, options: BrokerOptions | None = None) -> Mosquitto:
    """A broker, not started yet. Raises NotHereError; the embedded one would only measure itself."""
    if find_mosquitto() is None:
        raise NotHereError("mosquitto is not installed (apt-get install mosquitto)")
    return HeardMosquitto(folder, options or BrokerOptions())
