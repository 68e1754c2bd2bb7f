"""The log: one structured line an event, to systemd's log under systemd, else to standard error.

What a line says may come from outside, and so may the pace of lines. Values are quoted, so that no value can
make a second line or a second key; each event has a budget of lines, and what goes beyond is counted.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Literal, TextIO

from agent.runtime.plain_text import harmless, masked, told

_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}

LINES_AT_ONCE = 20
"""Lines of one event that may follow each other as fast as they come."""
LINE_EVERY_S = 3.0
"""After those, one line of the event in this time."""
QUIET_S = 60.0
"""A flood that ended this long ago is summed up by a line of its own."""
_VALUE_CHARACTERS = 500
_TRACE_LINES = 60


class EventLog:
    """Writes `event key=value ...` lines under one logger name. From any thread.

    The event is a constant of the program: lines are limited by it. What varies belongs into the values.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"mdt.{name}")

    def debug(self, event: str, **values: object) -> None:
        """For an engineer at the bench."""
        self._write(logging.DEBUG, event, values)

    def info(self, event: str, **values: object) -> None:
        """Something of the normal course changed."""
        self._write(logging.INFO, event, values)

    def warning(self, event: str, **values: object) -> None:
        """An expected fault; the agent goes on."""
        self._write(logging.WARNING, event, values)

    def error(self, event: str, **values: object) -> None:
        """Something that should not happen; `exc` may carry the exception for its traceback."""
        exc = values.pop("exc", None)
        self._write(logging.ERROR, event, values, exc if isinstance(exc, BaseException) else None)

    def _write(
        self, level: int, event: str, values: dict[str, object], exc: BaseException | None = None
    ) -> None:
        if self._logger.isEnabledFor(level):
            # Put into words only once it is known that the line will be written.
            self._logger.log(level, _Line(event, values), exc_info=exc)


class _Line:
    """An event and its values, which become text when somebody asks for it."""

    __slots__ = ("_values", "event")

    def __init__(self, event: str, values: Mapping[str, object]) -> None:
        self.event = event
        self._values = values

    def __str__(self) -> str:
        return " ".join((self.event, *(f"{key}={_quoted(value)}" for key, value in self._values.items())))


def _quoted(value: object) -> str:
    text = told(value) if isinstance(value, BaseException) else masked(str(value))
    if len(text) > _VALUE_CHARACTERS:
        text = text[: _VALUE_CHARACTERS - 1] + "…"
    if text and text.isprintable() and not any(c in ' "=\\' for c in text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{harmless(escaped)}"'


class _Budget:
    """Lines that one event may still write."""

    __slots__ = ("at_s", "left", "suppressed")

    def __init__(self, now_s: float) -> None:
        self.at_s = now_s
        self.left = float(LINES_AT_ONCE)
        self.suppressed = 0

    def take(self, now_s: float) -> bool:
        self.left = min(float(LINES_AT_ONCE), self.left + (now_s - self.at_s) / LINE_EVERY_S)
        self.at_s = now_s
        if self.left < 1:
            self.suppressed += 1
            return False
        self.left -= 1
        return True


class EventHandler(logging.StreamHandler[TextIO]):
    """Writes records of every logger as lines that can not be forged, within the budget of each event.

    Args:
        out: where lines go.
        under_systemd: prefix each line with its priority, as journald reads it; it adds the time itself.
        now_s: a clock that only moves forward, in seconds.
    """

    def __init__(
        self, out: TextIO, *, under_systemd: bool = False, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(out)
        self._under_systemd = under_systemd
        self._now_s = now_s
        self._budgets: dict[tuple[str, str], _Budget] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler. Called with the handler's lock held."""
        event = record.msg.event if isinstance(record.msg, _Line) else ""
        now_s = self._now_s()
        budget = self._budgets.setdefault((record.name, event), _Budget(now_s))
        if budget.take(now_s):
            record.suppressed, budget.suppressed = budget.suppressed, 0
            super().emit(record)
            self._sum_up(now_s - QUIET_S)

    def format(self, record: logging.LogRecord) -> str:
        """The record's line, and a line for each of its traceback that can not be mistaken for a record's."""
        name = record.name.removeprefix("mdt.")
        # Other libraries write what they like; theirs is one quoted value.
        line = str(record.msg) if isinstance(record.msg, _Line) else f"message={_quoted(record.getMessage())}"
        suppressed = getattr(record, "suppressed", 0)
        lines = [f"{line} suppressed={suppressed}" if suppressed else line, *_trace(record)]
        if self._under_systemd:
            start = f"<{_PRIORITY.get(record.levelno, 6)}>{name}"
        else:
            start = f"{_clock(record)} {record.levelname:<7} {record.name}"
        return "\n".join(f"{start} {line}" for line in lines)

    def close(self) -> None:
        """Sum up what was left out, and let go of the stream."""
        self.acquire()
        try:
            self._sum_up(self._now_s())
        finally:
            self.release()
        super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """A log that can not be written has nowhere to say so; the agent goes on."""

    def _sum_up(self, before_s: float) -> None:
        """Tell what floods left out that have ended by `before_s`."""
        for (name, event), budget in self._budgets.items():
            if budget.suppressed and budget.at_s <= before_s:
                values = {"of": event or "message", "lines": budget.suppressed}
                budget.suppressed = 0
                line = _Line("log_suppressed", values)
                super().emit(logging.LogRecord(name, logging.WARNING, "", 0, line, None, None))


def _trace(record: logging.LogRecord) -> list[str]:
    """The lines of a traceback, marked as such; the last ones of a long one."""
    if not record.exc_info or record.exc_info[1] is None:
        return []
    text = "".join(traceback.format_exception(record.exc_info[1]))
    return [f"  | {harmless(masked(line), _VALUE_CHARACTERS)}" for line in text.splitlines()][-_TRACE_LINES:]


def _clock(record: logging.LogRecord) -> str:
    return logging.Formatter().formatTime(record)


def set_up(level: Literal["debug", "info", "warning", "error"]) -> None:
    """Send the log to standard error, in the form that suits who reads it.

    What libraries log goes the same way, from warnings on: a line of theirs is quoted like any other.
    """
    handler = EventHandler(sys.stderr, under_systemd="JOURNAL_STREAM" in os.environ)
    logging.getLogger().handlers = [handler]
    logging.getLogger().setLevel(logging.WARNING)
    root = logging.getLogger("mdt")
    root.handlers = [handler]
    root.setLevel(level.upper())
    root.propagate = False
