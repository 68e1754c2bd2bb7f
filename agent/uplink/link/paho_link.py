"""The `Link` over paho-mqtt: which version of MQTT is spoken with which broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from time import monotonic

from agent.uplink.link.link import Closed, LinkEvent, Message, Opening
from agent.uplink.link.link_thread import LinkThread
from agent.uplink.link.paho_session import MQTT_3_1_1, MQTT_5, Phase, Session

REMEMBER_REFUSED_S = 24 * 3600.0
"""A broker that said it does not speak MQTT 5 is asked again after this long: it may have been upgraded."""
REMEMBER_HUNG_UP_S = 600.0
"""One that hung up without saying why may only have been starting."""


class PahoLink:
    """A connection to a broker on a thread of its own; implements `agent.uplink.link.link.Link`.

    MQTT 5 is spoken first, MQTT 3.1.1 to a broker that refuses it, which is remembered for each endpoint. One
    that is silent about MQTT 5 is told as such at once, and spoken to in 3.1.1 with the next attempt.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop
        self._thread: LinkThread | None = None
        self._older_until: dict[tuple[str, int], float] = {}
        self._older_next: set[tuple[str, int]] = set()

    def open(self, opening: Opening, on_event: Callable[[LinkEvent], None]) -> None:
        """See `Link.open`. Raises RuntimeError when the last connection has not told `Closed` yet."""
        if self._thread is not None and not self._thread.over:
            raise RuntimeError("the link is open already")
        thread = LinkThread(
            self._loop or asyncio.get_running_loop(),
            f"{opening.broker.host}:{opening.broker.port}",
            lambda thread: self._converse(thread, opening),
            on_event,
        )
        thread.start()
        self._thread = thread

    def publish(self, message: Message) -> int:
        """See `Link.publish`. After the end of the connection the message goes nowhere; `Closed` says so."""
        if self._thread is None:
            raise RuntimeError("the link was never opened")
        return self._thread.publish(message)

    def network_changed(self) -> None:
        """See `Link.network_changed`."""
        if self._thread is not None:
            self._thread.look_again()

    async def close(self) -> None:
        """See `Link.close`."""
        if self._thread is not None:
            await self._thread.close()

    def _converse(self, thread: LinkThread, opening: Opening) -> Closed:
        """On the thread: speak the newest MQTT that the broker takes until the connection ends."""
        endpoint = (opening.broker.host, opening.broker.port)
        if self._older_until.get(endpoint, 0.0) > monotonic():
            return Session(thread, opening, MQTT_3_1_1).run()
        if endpoint in self._older_next:
            self._older_next.discard(endpoint)
            return Session(thread, opening, MQTT_3_1_1, self._remember(endpoint, REMEMBER_HUNG_UP_S)).run()
        newest = Session(thread, opening, MQTT_5)
        closed = newest.run()
        if newest.refused_retain and opening.will is not None and not thread.closing:
            opening = replace(opening, will=replace(opening.will, retain=False))
            newest = Session(thread, opening, MQTT_5)
            closed = newest.run()
        if newest.hung_up_on and not thread.closing:
            # A network that blinks hangs up, too: only a broker that does it twice may be an old one.
            newest = Session(thread, opening, MQTT_5)
            closed = newest.run()
        if newest.unanswered:
            self._older_next.add(endpoint)
        if thread.closing or not (newest.refused_version or newest.hung_up_on):
            return closed
        memory_s = REMEMBER_REFUSED_S if newest.refused_version else REMEMBER_HUNG_UP_S
        older = Session(thread, opening, MQTT_3_1_1, self._remember(endpoint, memory_s))
        closed_older = older.run()
        return closed_older if older.phase is Phase.OPEN or newest.refused_version else closed

    def _remember(self, endpoint: tuple[str, int], memory_s: float) -> Callable[[], None]:
        return lambda: self._older_until.update({endpoint: monotonic() + memory_s})
