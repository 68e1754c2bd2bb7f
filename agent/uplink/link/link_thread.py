"""The thread of one connection, and the mailboxes between it and the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from collections import deque
from collections.abc import Callable

from agent.runtime.log import EventLog
from agent.uplink.link.link import Closed, LinkEvent, Message, Received
from agent.uplink.link.tcp import InterruptedByCloseError

log = EventLog("uplink")

WAITING_EVENTS = 10_000
"""Events that may wait for the loop before the thread stops reading."""
WAITING_BYTES = 4 << 20
"""Bytes of messages that may wait likewise."""
CLOSES_WITHIN_S = 6.0
"""Longest that an orderly end may take before the thread is left to itself."""
_WAKE_BYTES = 4096


class LinkThread:
    """Runs `converse` on a thread; messages go to it, events come from it.

    `publish`, `acknowledge`, `look_again`, `close` and `over` belong to the loop; everything below "the
    thread's side" to the thread.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        endpoint: str,
        converse: Callable[[LinkThread], Closed],
        on_event: Callable[[LinkEvent], None],
    ) -> None:
        self.endpoint = endpoint
        self.closing = False
        self.over = False
        self.network_changed = False
        self._loop = loop
        self._converse = converse
        self._on_event = on_event
        self._lock = threading.Lock()
        self._events: deque[LinkEvent] = deque()
        self._waiting_bytes = 0
        self._posted = False
        self._paused = False
        self._listening = False
        self._urgent: deque[tuple[int, Message]] = deque()
        self._ordinary: deque[tuple[int, Message]] = deque()
        self._next_token = 0
        self._done: deque[int] = deque()

    def start(self) -> None:
        """Start the thread. It is a daemon only so that a name look-up that hangs can not hold up an exit.

        Raises:
            OSError: no descriptor or no thread is left; nothing was started, and nothing needs closing.
        """
        self._finished: asyncio.Future[None] = self._loop.create_future()
        self.wake_read, self._wake_write = socket.socketpair()
        try:
            self.wake_read.setblocking(False)
            self._wake_write.setblocking(False)
            self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
            self._thread.start()
        except BaseException as error:
            self.over = True
            self.wake_read.close()
            self._wake_write.close()
            if isinstance(error, RuntimeError):  # what Python makes of a refused thread
                raise OSError(errno.EAGAIN, "no thread can be started") from error
            raise

    def publish(self, message: Message) -> int:
        """Queue a message for the thread and return its token."""
        self._next_token += 1
        (self._urgent if message.urgent else self._ordinary).append((self._next_token, message))
        if self._listening:
            self._wake()
        return self._next_token

    def acknowledge(self, packet_id: int) -> None:
        """What was received under that number is done; the broker may forget it."""
        if not self.over:
            self._done.append(packet_id)
            self._wake()

    def look_again(self) -> None:
        """The computer's network changed."""
        if not self.over:
            self.network_changed = True
            self._wake()

    async def close(self) -> None:
        """Ask the thread to end and wait until it has, and `Closed` was told."""
        if self.over:
            return
        self.closing = True
        self._wake()
        await asyncio.wait([self._finished], timeout=CLOSES_WITHIN_S)
        if not self.over:
            # Only a name look-up can hang like this; the thread ends by itself once the resolver gives up.
            self._end(Closed("", f"{self.endpoint}: closed while its name was being looked up"))

    def _wake(self) -> None:
        # A full socket means that the thread is going to wake anyway, a closed one that it has ended.
        with contextlib.suppress(OSError):
            self._wake_write.send(b"\0")

    def _deliver(self) -> None:
        with self._lock:
            events, self._events = self._events, deque()
            self._waiting_bytes = 0
            self._posted = False
            paused, self._paused = self._paused, False
        if paused:
            self._wake()
        try:
            while events and not self.over:
                event = events.popleft()
                if isinstance(event, Closed):
                    self._thread.join()
                    self._end(event)
                else:
                    self._on_event(event)
        finally:
            if events and not self.over:
                # The listener raised: the loop reports that, and the rest is still delivered.
                with self._lock:
                    self._events.extendleft(reversed(events))
                    self._posted = True
                self._loop.call_soon(self._deliver)

    def _end(self, closed: Closed) -> None:
        self.over = True
        self._wake_write.close()
        self._urgent.clear()
        self._ordinary.clear()
        if not self._finished.done():
            self._finished.set_result(None)
        self._on_event(closed)

    # The thread's side

    def listen(self) -> None:
        """From now on `publish` wakes the thread; before, a wake-up can only mean `close`."""
        self._listening = True

    def post(self, event: LinkEvent) -> None:
        """Hand an event to the loop."""
        with self._lock:
            self._events.append(event)
            if isinstance(event, Received):
                self._waiting_bytes += len(event.payload)
            if self._posted:
                return
            self._posted = True
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            log.debug("loop_closed", unheard=type(event).__name__)

    def next_outgoing(self) -> tuple[int, Message] | None:
        """The next message to write, urgent ones first, with its token."""
        for queue in (self._urgent, self._ordinary):
            if queue:
                return queue.popleft()
        return None

    def next_done(self) -> int | None:
        """The next received message that may be acknowledged."""
        return self._done.popleft() if self._done else None

    def flooded(self) -> bool:
        """True while so much waits that reading must stop; the loop then wakes the thread."""
        with self._lock:
            self._paused = len(self._events) > WAITING_EVENTS or self._waiting_bytes > WAITING_BYTES
            return self._paused

    def swallow_wake(self) -> None:
        """Empty the wake socket."""
        with contextlib.suppress(BlockingIOError):
            while len(self.wake_read.recv(_WAKE_BYTES)) == _WAKE_BYTES:
                pass

    def _run(self) -> None:
        closed = Closed("broker_unreachable", f"{self.endpoint}: the connection ended")
        try:
            closed = self._converse(self)
        except InterruptedByCloseError:
            if self.closing:
                closed = Closed("", f"{self.endpoint}: closed while connecting")
            else:
                why = "the network of this computer changed"
                closed = Closed("broker_unreachable", f"{self.endpoint}: {why}")
        except OSError as error:
            closed = Closed("broker_unreachable", f"{self.endpoint}: {error.strerror or error}")
        except Exception as error:  # noqa: BLE001
            # A supervision boundary: hostile bytes can make a protocol engine raise anything.
            log.error("mqtt_engine_failed", broker=self.endpoint, exc=error)
            closed = Closed("broker_refused", f"{self.endpoint}: protocol error ({type(error).__name__})")
        finally:
            self.wake_read.close()
            self.post(closed)
