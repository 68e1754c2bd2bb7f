"""Getting and keeping a connection: which broker, when, with which credentials."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent import config
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.stamp import Utc, UtcSource
from agent.uplink.broker_choice import Attempt, BrokerChoice
from agent.uplink.credentials import Fingerprint, credential_files, expiring, fingerprint
from agent.uplink.link import Closed, Opened
from agent.uplink.redirect import redirected

LOG = logging.getLogger("mdt.uplink")

PROBE_EVERY_S = 30.0
CERTIFICATES_EVERY_S = 3600.0
MOST_REDIRECTS = 3

Probe = Callable[[str, int, float], Awaitable[bool]]
"""Whether something accepts connections at host and port, within a time-out in seconds."""

_REASONS = (HealthReason.BROKER_UNREACHABLE, HealthReason.BROKER_REFUSED, HealthReason.TLS_FAILED)


class Connector:
    """Chooses what to connect to next, and tells the health board how that goes. It opens nothing itself."""

    def __init__(
        self,
        settings: config.Uplink,
        health: HealthBoard,
        rng: random.Random,
        *,
        utc_now: Callable[[], Utc | None],
        probe: Probe,
    ) -> None:
        self._settings = settings
        self._health = health
        self._utc_now = utc_now
        self._probe = probe
        self._choice = BrokerChoice(settings, rng)
        self._attempt: Attempt | None = None
        self._planned: Attempt | None = None
        self._redirect: config.Broker | None = None
        self._redirects = 0
        self._opened: Opened | None = None
        self._opened_to: tuple[str, int] | None = None
        self._marks: Fingerprint | None = None
        self._certificates_at: float | None = None
        self._probed_at = 0.0
        self._probing: asyncio.Task[bool] | None = None

    @property
    def broker(self) -> config.Broker:
        """The one in use or tried next."""
        return self._redirect or self._settings.brokers[self._choice.index]

    @property
    def endpoint(self) -> str:
        """Its "host:port"."""
        return f"{self.broker.host}:{self.broker.port}"

    @property
    def may_resume(self) -> bool:
        """True when the broker may still hold the session of our last connection."""
        return self._settings.will_delay_s > 0 and self._opened_to == (self.broker.host, self.broker.port)

    def due_in_s(self, now: float) -> float:
        """How long to wait before the next attempt; changed credentials end the wait."""
        if self._attempt is None:
            self._attempt = self._choice.first(now)
        marks = fingerprint(credential_files(self.broker))
        if self._marks not in (None, marks):
            self._attempt = self._choice.try_soon(now)
        self._marks = marks
        return max(0.0, self._attempt.at - now)

    def opened(self, opened: Opened, now: float) -> None:
        """A broker took us."""
        self._opened = opened
        self._opened_to = (self.broker.host, self.broker.port)
        self._redirects = 0
        self._certificates_at = None
        self._choice.opened(now)
        self._health.clear(*_REASONS)
        if opened.refused_subscriptions:
            detail = f"{self.endpoint} does not let us subscribe to {', '.join(opened.refused_subscriptions)}"
            self._health.raise_(HealthReason.BROKER_REFUSED, detail)
        if self._choice.index > 0:
            self._health.raise_(HealthReason.BROKER_NOT_PREFERRED, f"using {self.endpoint}")
        else:
            self._health.clear(HealthReason.BROKER_NOT_PREFERRED)

    def closed(self, closed: Closed, now: float) -> None:
        """The connection ended or never came to be."""
        self._opened = None
        planned, self._planned = self._planned, None
        self._attempt = planned or self._choice.closed(now)
        if closed.reason:
            self._health.clear(*(reason for reason in _REASONS if reason != closed.reason))
            self._health.raise_(HealthReason(closed.reason), closed.detail)
        moved = None
        if closed.server_moved_to is not None and self._redirects < MOST_REDIRECTS:
            moved = redirected(self.broker, closed.server_moved_to)
        if moved is not None:
            self._redirects += 1
            self._attempt = self._choice.try_soon(now)
        self._redirect = moved
        self._marks = fingerprint(credential_files(self.broker))

    def journal_refused(self, topic: str, code: int) -> None:
        """A PUBACK said no (`code`), or the topic is taken again (0)."""
        if code:
            detail = f"{self.endpoint} does not take {topic}: reason code 0x{code:02x}"
            self._health.raise_(HealthReason.BROKER_REFUSED, detail)
            LOG.warning("journal_refused %s", detail)
        elif self._opened is not None and not self._opened.refused_subscriptions:
            self._health.clear(HealthReason.BROKER_REFUSED)

    def tend(self, now: float) -> bool:
        """Look after a standing connection; True when it is time to leave it for the preferred broker."""
        if self._certificates_at is None or now - self._certificates_at > CERTIFICATES_EVERY_S:
            self._certificates_at = now
            self._look_at_certificates()
        index = self._choice.preferred_to_probe
        if index is None:
            return False
        if self._probing is None:
            if now - self._probed_at >= min(PROBE_EVERY_S, self._settings.return_after_s / 4):
                self._probed_at = now
                self._probing = asyncio.create_task(self._look_at(index), name="uplink-probe")
            return False
        if not self._probing.done():
            return False
        well, self._probing = self._probing.result(), None
        return self._choice.probed(well, now)

    def go_back(self, now: float) -> None:
        """The connection is about to be closed in favour of the preferred broker."""
        LOG.info("returns_to_preferred_broker from=%s", self.endpoint)
        self._redirect = None
        self._planned = self._choice.go_back(now)

    async def stop(self) -> None:
        """End the probe, if one runs. Idempotent."""
        probing, self._probing = self._probing, None
        if probing is not None:
            probing.cancel()
            await asyncio.wait([probing])

    async def _look_at(self, index: int) -> bool:
        broker = self._settings.brokers[index]
        return await self._probe(broker.host, broker.port, self._settings.connect_timeout_s)

    def _look_at_certificates(self) -> None:
        utc = self._utc_now()
        if utc is None or utc.source < UtcSource.NTP:
            return  # an unset clock would cry wolf
        server = None
        if self._opened is not None and self._opened.server_certificate_expires_unix_s is not None:
            server = (self.endpoint, self._opened.server_certificate_expires_unix_s)
        files: list[tuple[str, Path | None]] = []
        for broker in self._settings.brokers:
            if broker.tls is not None:
                files += [("authority", broker.tls.ca_file), ("certificate", broker.tls.certificate_file)]
        known = [(what, file) for what, file in dict.fromkeys(files) if file is not None]
        sentences = expiring(known, server, utc.unix_ms / 1000)
        if sentences:
            self._health.raise_(HealthReason.CERTIFICATE_EXPIRING, "; ".join(sentences))
        else:
            self._health.clear(HealthReason.CERTIFICATE_EXPIRING)
