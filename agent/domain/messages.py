"""Texts and coded short orders from dispatch: received, shown, acknowledged, each once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

MOST_MESSAGES: Final = 32
MOST_TEXT: Final = 500
ORDERS: Final = frozenset(
    {"call_in", "use_radio", "cancel", "come_by_phone", "return_to_base", "report_position"}
)
"""Coded short orders, as radio systems have them by letters."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Attributes:
        id: dispatch's own; what acknowledgements name.
        text: for the crew, cut visibly at its limit; empty for an order.
        order: token of `ORDERS`; None for a text.
        received_ns: CLOCK_BOOTTIME of its arrival.
        shown: whether a screen has shown it.
        acknowledged: whether the crew acknowledged it.
    """

    id: str
    text: str
    order: str | None
    received_ns: int
    shown: bool = False
    acknowledged: bool = False


class MessageBook:
    """The newest messages; bounded. The oldest acknowledged one gives way first, then the oldest."""

    def __init__(self, *, keep_s: float = 86_400.0) -> None:
        self._keep_ns = round(keep_s * 1e9)
        self._messages: dict[str, Message] = {}

    @property
    def messages(self) -> tuple[Message, ...]:
        """Newest first."""
        return tuple(reversed(self._messages.values()))

    def take(self, message_id: str, text: str, order: str | None, now_ns: int) -> Message | None:
        """Take a message; None for one that came before.

        Raises:
            ValueError: it has neither text nor a known order, or no id.
        """
        if not message_id or len(message_id) > 64:  # noqa: PLR2004
            raise ValueError("a message needs an id of 1 to 64 characters")
        if order is not None and order not in ORDERS:
            raise ValueError(f"{order!r:.40} is no order; known are {', '.join(sorted(ORDERS))}")
        if order is None and not text.strip():
            raise ValueError("a message has a text or an order")
        if message_id in self._messages:
            return None
        cut = text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"
        message = self._messages[message_id] = Message(message_id, cut, order, now_ns)
        while len(self._messages) > MOST_MESSAGES:
            done = (one.id for one in self._messages.values() if one.acknowledged)
            del self._messages[next(done, next(iter(self._messages)))]
        return message

    def shown(self, message_id: str) -> Message | None:
        """A screen shows it; None when that was said before, or it is not known."""
        message = self._messages.get(message_id)
        if message is None or message.shown:
            return None
        message = self._messages[message_id] = replace(message, shown=True)
        return message

    def acknowledge(self, message_id: str) -> Message | None:
        """The crew has read it; None when that was said before, or it is not known."""
        message = self._messages.get(message_id)
        if message is None or message.acknowledged:
            return None
        message = self._messages[message_id] = replace(message, shown=True, acknowledged=True)
        return message

    def remembered(self) -> list[dict[str, Any]]:
        """What a restart must know, JSON-able: messages that the crew has not acknowledged."""
        return [asdict(one) for one in self._messages.values() if not one.acknowledged]

    def restore(self, given: Sequence[Any], now_ns: int, *, same_boot: bool) -> None:
        """Take up where the last run ended; only before anything else.

        Args:
            given: as `remembered` gave it.
            now_ns: CLOCK_BOOTTIME.
            same_boot: whether times in `given` are of this boot; otherwise they count from now.

        Raises:
            ValueError: what was remembered makes no sense.
        """
        for one in given[-MOST_MESSAGES:]:
            try:
                received_ns = int(one["received_ns"]) if same_boot else now_ns
                message = self.take(one["id"], one["text"], one["order"], received_ns)
            except (TypeError, KeyError, AttributeError) as error:
                raise ValueError("not a message") from error
            if message is not None and one.get("shown") is True:
                self.shown(message.id)

    def forget(self, now_ns: int) -> None:
        """Erase what is older than it may be kept."""
        for message in tuple(self._messages.values()):
            if now_ns - message.received_ns >= self._keep_ns:
                del self._messages[message.id]
