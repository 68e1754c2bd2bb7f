"""Which broker to talk to, and when to try again: rules without a network."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from agent import config

STABLE_S = 30.0
"""A connection that lasted this long was good: the back-off begins anew."""
RETURN_DOUBLINGS = 4
"""How often the time before going back to a preferred broker doubles when going back failed."""
PATIENCE_DOUBLINGS = 4
"""How often the time before leaving a broker that lets us in doubles when all brokers are of no use."""
QUICK_MAX_S = 5.0
"""Longest wait between two tries while the connection has not been away for long, as after a tunnel."""
QUICK_FOR_S = 600.0
"""So long after the connection was lost, or somebody pressed something, waits stay that short."""
PRESSED_MAX_S = 1.5
"""Longest wait while something that a person pressed is not delivered."""
NEXT_WITHIN_S = 0.25
"""The next broker of the list is tried so soon after the one before it failed."""
TAKEN_OVER_S = (5.0, 15.0)
"""Wait after another client took our place: at once would only throw it out in turn."""
_EXPONENT_LIMIT = 30


@dataclass(frozen=True, slots=True)
class Attempt:
    """The next try.

    Attributes:
        index: of the broker in the order of preference.
        at: not before this moment.
        pressed_at: the same while something that a person pressed is not delivered; `at` unless given.
    """

    index: int
    at: float
    pressed_at: float = math.inf

    def __post_init__(self) -> None:
        object.__setattr__(self, "pressed_at", min(self.at, self.pressed_at))


class BrokerChoice:
    """Preference, fail-over with a configured patience, return with hysteresis, and jittered back-off.

    A broker fails from the first connection that ends, or the first refusal, until it takes what we have for
    it: being let in is not being served. One that can not be reached is followed by the next at once; when
    all have been tried in vain, there is a wait.

    Times are seconds of any monotonic clock. The back-off is exponential with full jitter: the wait is drawn
    evenly between nothing and the limit, so that a fleet that lost its broker at one moment comes back spread
    out. The limit is 5 s for the first ten minutes: a vehicle comes out of a tunnel within them, and must not
    wait then. It is shorter yet while a press waits.
    """

    def __init__(self, settings: config.Uplink, rng: random.Random) -> None:
        self._settings = settings
        self._rng = rng
        self._count = len(settings.brokers)
        self._index = 0
        self._failures = 0
        self._failing_since: float | None = None
        self._served_at = -math.inf
        self._gave_up_at = -math.inf
        self._given_up = 0
        self._opened_at: float | None = None
        self._reachable_since: float | None = None
        self._returns_failed = 0
        self._returned_at: float | None = None
        self._tried_in_vain = 0
        self._quick_until: float | None = None

    @property
    def index(self) -> int:
        """The broker in use or tried now."""
        return self._index

    @property
    def next_index(self) -> int:
        """The broker that is tried when this one fails."""
        return (self._index + 1) % self._count

    def first(self, now: float) -> Attempt:
        """The first try of all: spread like any other, since a depot's vehicles start with the shift."""
        return Attempt(self._index, now + self._rng.uniform(0.0, min(1.0, self._settings.reconnect_min_s)))

    def opened(self, now: float) -> None:
        """The broker took us: no reason yet to believe that it is of use."""
        self._opened_at = now
        self._tried_in_vain = 0
        self._reachable_since = None

    def served(self, now: float) -> None:
        """The broker took what we had for it."""
        self._served_at = now
        self._failing_since = None

    def idle(self, now: float) -> bool:
        """Nothing is due; True when the connection has stood long enough to call that service."""
        stable = self._opened_at is not None and now - self._opened_at >= STABLE_S
        if stable:
            self.served(now)
        return stable

    def failing(self, since: float) -> None:
        """The broker has been of no use since then, though it let us in."""
        if self._failing_since is None:
            self._failing_since = max(since, self._served_at)

    def gives_up(self, now: float) -> bool:
        """Whether a standing connection has been of no use for so long that another broker is to be tried."""
        if self._count == 1 or self._opened_at is None or self._failing_since is None:
            return False
        return now - max(self._failing_since, self._opened_at) >= self._patience_s

    def give_up(self, now: float) -> Attempt:
        """Leave a broker that lets us in and is of no use.

        When all of them are like that, each round of giving up takes longer: what they do take must not
        suffer from the search.
        """
        self._given_up = self._given_up + 1 if self._searching else 1
        self._opened_at = None
        self._fail_over(now)
        self._gave_up_at = now
        return Attempt(self._index, now + self._rng.uniform(0.0, self._settings.reconnect_min_s))

    def closed(self, now: float, *, taken_over: bool = False, said_no: bool = False) -> Attempt:
        """The connection ended or never came to be; says what to try next.

        Args:
            now: when.
            taken_over: another client took our place.
            said_no: the broker is there and does not want us: it is not asked as often as an absent one.
        """
        was_open, self._opened_at = self._opened_at, None
        if was_open is not None and now - was_open >= STABLE_S:
            self._failures = 0
            self._quick_until = None
        if self._failing_since is None:
            self._failing_since = now
        if self._quick_until is None:
            self._quick_until = now + QUICK_FOR_S
        if taken_over:
            return Attempt(self._index, now + self._rng.uniform(*TAKEN_OVER_S), now + PRESSED_MAX_S)
        if was_open is None:
            self._tried_in_vain += 1
            if self._count > 1:
                self._leave(now)
                if self._tried_in_vain % self._count:
                    return Attempt(self._index, now + self._rng.uniform(0.0, NEXT_WITHIN_S))
                self._index = 0
        elif self._count > 1 and now - self._failing_since >= self._settings.fail_over_after_s:
            self._fail_over(now)
        return self._backed_off(now, quick=now < self._quick_until and not said_no)

    def hurry(self, now: float) -> None:
        """Somebody pressed something, or the network changed: waits are short again for a while."""
        self._quick_until = now + QUICK_FOR_S

    def _backed_off(self, now: float, *, quick: bool) -> Attempt:
        s = self._settings
        most_s = min(s.reconnect_max_s, QUICK_MAX_S) if quick else s.reconnect_max_s
        limit_s = min(most_s, s.reconnect_min_s * 2.0 ** min(self._failures, _EXPONENT_LIMIT))
        self._failures += 1
        share = self._rng.random()
        pressed_s = min(limit_s, PRESSED_MAX_S) if quick else limit_s
        return Attempt(self._index, now + share * limit_s, now + share * pressed_s)

    def try_soon(self, now: float) -> Attempt:
        """Something changed (credentials, a server reference): try without waiting for the back-off."""
        return Attempt(self._index, now)

    @property
    def preferred_to_probe(self) -> int | None:
        """The broker whose reachability matters while we are connected to a lesser one."""
        return 0 if self._index > 0 and self._opened_at is not None else None

    def probed(self, reachable: bool, now: float) -> bool:
        """A look at the preferred broker; True when it is time to close and go back to it."""
        if not reachable:
            self._reachable_since = None
            return False
        if self._reachable_since is None:
            self._reachable_since = now
        patience_s = self._settings.return_after_s * 2.0 ** min(self._returns_failed, RETURN_DOUBLINGS)
        return bool(now - self._reachable_since >= patience_s)

    def go_back(self, now: float) -> Attempt:
        """Use the preferred broker again."""
        self._index = 0
        self._opened_at = None
        self._failing_since = None
        self._reachable_since = None
        self._failures = 0
        self._returned_at = now
        return Attempt(0, now)

    @property
    def _searching(self) -> bool:
        """Whether the trouble began again soon after a broker had been given up."""
        # Long enough to have tried all the others in vain.
        soon_s = (self._count + 1) * max(self._settings.fail_over_after_s, STABLE_S)
        return self._failing_since is not None and self._failing_since - self._gave_up_at < soon_s

    @property
    def _patience_s(self) -> float:
        """How long a broker that lets us in may be of no use."""
        rounds = self._given_up // self._count if self._searching else 0
        return self._settings.fail_over_after_s * 2.0 ** min(rounds, PATIENCE_DOUBLINGS)

    def _fail_over(self, now: float) -> None:
        """Leave a broker that let us in."""
        self._leave(now)
        self._failing_since = now
        self._failures = 0

    def _leave(self, now: float) -> None:
        if self._index == 0 and self._returned_at is not None:
            # A broker that looks well from outside and fails us again is believed more slowly each time.
            young = now - self._returned_at < self._settings.return_after_s + self._patience_s
            self._returns_failed = self._returns_failed + 1 if young else 0
            self._returned_at = None
        self._index = self.next_index
