"""Getting and keeping a connection: which broker, when, with which credentials."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

from agent import config
from agent.domain.health import HealthBoard, HealthReason
from agent.domain.stamp import Utc, UtcSource
from agent.runtime.log import EventLog
from agent.uplink.broker.broker_choice import STABLE_S, Attempt, BrokerChoice
from agent.uplink.broker.redirect import redirected
from agent.uplink.link.credentials import CertificateFiles, Fingerprint, credential_files, fingerprint
from agent.uplink.link.link import Closed, Opened
from agent.uplink.link.refusal import FAILURE, NO_MATCHING_SUBSCRIBERS

log = EventLog("uplink")

PROBE_EVERY_S = 30.0
PRESS_EVERY_S = 1.0
"""Presses that follow one another closer than this do not each try to connect."""
NETWORK_SPREAD_S = 0.5
CERTIFICATES_EVERY_S = 60.0
MOST_REDIRECTS = 3
"""How many servers one after the other are followed before the configured brokers have their turn again."""

Probe = Callable[[str, int, float], Awaitable[bool]]
"""Whether something accepts connections at host and port, within a time-out in seconds."""

_REASONS = (
    HealthReason.BROKER_UNREACHABLE,
    HealthReason.BROKER_REFUSED,
    HealthReason.PACKET_TOO_LARGE,
    HealthReason.TLS_FAILED,
)
_RETAIN = "retain"
"""Owner of the reason that a broker keeps no retained messages."""
_REDIRECT = "redirect"
"""Owner of the reason that a broker sends us to a host that is not listed."""
_STALL = "stall"
"""Owner of the reason that a broker acknowledges nothing: a new connection does not yet make that good."""


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
        self._rng = rng
        self._utc_now = utc_now
        self._probe = probe
        self._choice = BrokerChoice(settings, rng)
        self._attempt: Attempt | None = None
        self._tried_at = -math.inf
        self._tried_with_time = False
        self._tls_failed = False
        self._planned: Attempt | None = None
        self._redirect: config.Broker | None = None
        self._redirects = 0
        self._redirected_lately = False
        self._refused: set[str] = set()
        self._unheard: set[str] = set()
        self._giving_up = False
        self._opened: Opened | None = None
        self._opened_at = 0.0
        self._opened_to: tuple[str, int] | None = None
        self._marks: Fingerprint | None = None
        self._certificates = _certificate_files(settings)
        self._certificates_at: float | None = None
        self._server_certificate: tuple[str, int] | None = None
        self._probed_at = 0.0
        self._probed_index = 0
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
        """True when the broker may still hold the session of our last connection.

        Also before the first: this program may have been started again a moment ago.
        """
        ours = self._opened_to in (None, (self.broker.host, self.broker.port))
        return self._settings.will_delay_s > 0 and ours

    @property
    def without_subscriber(self) -> frozenset[str]:
        """Topics that the broker takes and has nobody for."""
        return frozenset(self._unheard)

    def tried(self, now: float) -> None:
        """An attempt begins."""
        self._tried_at = now
        self._tried_with_time = self._trusted_utc() is not None

    def hurry(self, now: float) -> None:
        """Somebody pressed something: try at once, yet not more than once in `PRESS_EVERY_S`."""
        self._choice.hurry(now)
        self._try_at(max(now, self._tried_at + PRESS_EVERY_S))

    def network_changed(self, now: float) -> None:
        """This computer's network changed: try at once, a little spread, since a whole depot may see it."""
        self._choice.hurry(now)
        self._try_at(now + self._rng.uniform(0.0, NETWORK_SPREAD_S))

    def _try_at(self, at: float) -> None:
        if self._attempt is not None and self._attempt.at > at:
            self._attempt = replace(self._attempt, at=at)

    def due_in_s(self, now: float, *, press_waits: bool = False) -> float:
        """How long to wait before the next attempt; changed credentials end the wait.

        So does a time that is known at last, when certificates were refused by a clock that nobody trusts.

        Args:
            now: time of the loop in seconds.
            press_waits: whether something that a person pressed is not delivered.
        """
        self._look_at_certificates(now)
        if self._attempt is None:
            self._attempt = self._choice.first(now)
        if self._tls_failed and not self._tried_with_time and self._trusted_utc() is not None:
            self._tried_with_time = True
            self._attempt = self._choice.try_soon(now)
        marks = fingerprint(credential_files(self.broker))
        if self._marks not in (None, marks):
            self._attempt = self._choice.try_soon(now)
            self._certificates_at = None
        self._marks = marks
        return max(0.0, (self._attempt.pressed_at if press_waits else self._attempt.at) - now)

    def opened(self, opened: Opened, now: float) -> None:
        """A broker took us."""
        self._opened, self._opened_at = opened, now
        self._tls_failed = False
        self._opened_to = (self.broker.host, self.broker.port)
        self._certificates_at = None
        self._server_certificate = None
        if opened.server_certificate_expires_unix_s is not None:
            self._server_certificate = (self.endpoint, opened.server_certificate_expires_unix_s)
        self._choice.opened(now)
        self._health.clear(*_REASONS)
        self._health.clear(HealthReason.BROKER_REFUSED, owner=_REDIRECT)
        if opened.refused_subscriptions:
            detail = f"{self.endpoint} does not let us subscribe to {', '.join(opened.refused_subscriptions)}"
            self._health.raise_(HealthReason.BROKER_REFUSED, detail)
        if not opened.retain_available:
            detail = f"{self.endpoint} keeps no retained messages: who comes later does not see the states"
            self._health.raise_(HealthReason.BROKER_REFUSED, detail, owner=_RETAIN)
        if self._choice.index > 0:
            self._health.raise_(HealthReason.BROKER_NOT_PREFERRED, f"using {self.endpoint}")
        else:
            self._health.clear(HealthReason.BROKER_NOT_PREFERRED)

    def closed(self, closed: Closed, now: float) -> None:
        """The connection ended or never came to be."""
        if self._opened is not None and now - self._opened_at >= STABLE_S:
            self._redirects, self._redirected_lately = 0, False
        self._opened = None
        self._giving_up = False
        for topic in self._refused | self._unheard:
            self._health.clear(HealthReason.BROKER_REFUSED, HealthReason.NO_SUBSCRIBER, owner=topic)
        self._refused.clear()
        self._unheard.clear()
        self._health.clear(HealthReason.BROKER_REFUSED, owner=_RETAIN)
        planned, self._planned = self._planned, None
        index = self._choice.index
        said_no = closed.said_no or closed.server_moved_to is not None
        self._attempt = planned or self._choice.closed(now, taken_over=closed.taken_over, said_no=said_no)
        self._tls_failed = closed.reason == HealthReason.TLS_FAILED
        if closed.reason:
            self._health.clear(*(reason for reason in _REASONS if reason != closed.reason))
            self._health.raise_(HealthReason(closed.reason), closed.detail)
        # Whoever sends us in vain from one server to the next has failed like any other broker.
        follow = planned is None and self._choice.index == index
        self._redirect = self._moved(closed, now) if follow else None
        self._marks = fingerprint(credential_files(self.broker))

    def _moved(self, closed: Closed, now: float) -> config.Broker | None:
        """Where the broker sends us: at once the first time, then at the pace of the back-off."""
        moved = None
        if closed.server_moved_to is not None and self._redirects < MOST_REDIRECTS:
            moved = redirected(self.broker, closed.server_moved_to, self._settings.brokers)
            if moved is None:
                detail = f"{self.endpoint} sends us to {closed.server_moved_to}, which is not listed"
                self._health.raise_(HealthReason.BROKER_REFUSED, detail, owner=_REDIRECT)
                log.warning("redirect_refused", broker=self.endpoint, to=closed.server_moved_to)
        self._redirects = 0 if moved is None else self._redirects + 1
        if moved is not None and not self._redirected_lately:
            self._redirected_lately = True
            self._attempt = self._choice.try_soon(now)
        return moved

    def stream_answered(self, topic: str, code: int, now: float) -> None:
        """A stream's topic was answered with this reason code, or can not be offered (0x95)."""
        if code >= FAILURE:
            self._refused.add(topic)
            self._choice.failing(now)
            detail = f"{self.endpoint} does not take {topic}: reason code 0x{code:02x}"
            self._health.raise_(HealthReason.BROKER_REFUSED, detail, owner=topic)
            log.warning("records_refused", broker=self.endpoint, topic=topic, code=f"0x{code:02x}")
            return
        self._refused.discard(topic)
        self._health.clear(HealthReason.BROKER_REFUSED, owner=topic)
        if code == NO_MATCHING_SUBSCRIBERS:
            detail = f"{self.endpoint} has nobody who is subscribed to {topic}: it is kept and offered again"
            if topic not in self._unheard:
                log.warning("no_subscriber", broker=self.endpoint, topic=topic)
            self._unheard.add(topic)
            self._health.raise_(HealthReason.NO_SUBSCRIBER, detail, owner=topic)
        elif topic in self._unheard:
            self._unheard.discard(topic)
            self._health.clear(HealthReason.NO_SUBSCRIBER, owner=topic)
        # A broker without a subscriber is as good as any: whether another has one can not be known from here.
        if not self._refused:
            self._served(now)

    def stalled(self, for_s: float, now: float) -> None:
        """The connection is about to be closed: something has waited in vain for its PUBACK for `for_s`."""
        detail = f"{self.endpoint}: answers, but acknowledges nothing"
        self._health.raise_(HealthReason.BROKER_UNREACHABLE, detail, owner=_STALL)
        self._choice.failing(now - for_s)

    def _served(self, now: float) -> None:
        self._choice.served(now)
        self._health.clear(HealthReason.BROKER_UNREACHABLE, owner=_STALL)

    def tend(self, now: float, *, due: bool) -> bool:
        """Look after a standing connection; True when it is time to `leave` it.

        Args:
            now: time of the loop in seconds.
            due: whether a record waits to be sent or acknowledged.
        """
        self._look_at_certificates(now)
        if not due and not self._refused and self._choice.idle(now):
            self._served(now)
        gives_up = bool(self._refused) and self._choice.gives_up(now)
        index = self._choice.next_index if gives_up else self._choice.preferred_to_probe
        well = None if index is None else self._look(index, now)
        if well is None:
            return False
        # A broker that takes presses but not the trail is better than one that is not there.
        self._giving_up = gives_up and well
        return self._giving_up or (not gives_up and self._choice.probed(well, now))

    def leave(self, now: float) -> None:
        """The connection is about to be closed, as `tend` said, in favour of another broker."""
        if self._opened is None:
            return  # it ended by itself meanwhile, and what comes next is settled
        if self._giving_up:
            log.warning("gives_up_broker", broker=self.endpoint, refused=",".join(sorted(self._refused)))
            self._planned = self._choice.give_up(now)
        else:
            log.info("returns_to_preferred_broker", leaves=self.endpoint)
            self._planned = self._choice.go_back(now)
        self._redirect = None

    async def stop(self) -> None:
        """End the probe, if one runs. Idempotent."""
        probing, self._probing = self._probing, None
        if probing is not None:
            probing.cancel()
            await asyncio.wait([probing])

    def _look(self, index: int, now: float) -> bool | None:
        """Whether a broker accepts connections; None while that is not known yet."""
        if self._probing is None:
            if now - self._probed_at >= min(PROBE_EVERY_S, self._settings.return_after_s / 4):
                self._probed_at, self._probed_index = now, index
                self._probing = asyncio.create_task(self._look_at(index), name="uplink-probe")
            return None
        if not self._probing.done():
            return None
        probe, self._probing = self._probing, None
        return probe.result() if self._probed_index == index else None

    async def _look_at(self, index: int) -> bool:
        broker = self._settings.brokers[index]
        return await self._probe(broker.host, broker.port, self._settings.connect_timeout_s)

    def _look_at_certificates(self, now: float) -> None:
        """Tell of certificates near their end; without a connection too, since that may be the cause."""
        if self._certificates_at is not None and now - self._certificates_at < CERTIFICATES_EVERY_S:
            return
        utc = self._trusted_utc()
        if utc is None:
            return  # an unset clock would cry wolf
        self._certificates_at = now
        sentences = self._certificates.expiring(self._server_certificate, utc.unix_ms / 1000)
        if sentences:
            self._health.raise_(HealthReason.CERTIFICATE_EXPIRING, "; ".join(sentences))
        else:
            self._health.clear(HealthReason.CERTIFICATE_EXPIRING)

    def _trusted_utc(self) -> Utc | None:
        utc = self._utc_now()
        return None if utc is None or utc.source < UtcSource.NTP else utc


def _certificate_files(settings: config.Uplink) -> CertificateFiles:
    tls = [broker.tls for broker in settings.brokers if broker.tls is not None]
    authorities = dict.fromkeys(t.ca_file for t in tls if t.ca_file is not None)
    certificates = dict.fromkeys(t.certificate_file for t in tls if t.certificate_file is not None)
    return CertificateFiles(tuple(authorities), tuple(certificates))
