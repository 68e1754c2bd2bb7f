"""The log: one structured line an event, to the journal under systemd, else to standard error."""

from __future__ import annotations

import logging
import os
import sys
from typing import Literal

_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class EventLog:
    """Writes `event key=value ...` lines under one logger name."""

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
            words = [event, *(f"{key}={_quoted(value)}" for key, value in values.items())]
            self._logger.log(level, " ".join(words), exc_info=exc)


def _quoted(value: object) -> str:
    text = str(value)
    if text and not any(c in ' "=\n\r\t' for c in text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


class _JournalFormatter(logging.Formatter):
    """Prefix that journald reads as the priority; it adds the time itself."""

    def format(self, record: logging.LogRecord) -> str:
        text = f"{record.name.removeprefix('mdt.')} {super().format(record)}"
        return "\n".join(f"<{_PRIORITY.get(record.levelno, 6)}>{line}" for line in text.split("\n"))


def set_up(level: Literal["debug", "info", "warning", "error"]) -> None:
    """Send the log to standard error, in the form that suits who reads it."""
    handler = logging.StreamHandler(sys.stderr)
    if "JOURNAL_STREAM" in os.environ:
        handler.setFormatter(_JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s %(message)s"))
    root = logging.getLogger("mdt")
    root.handlers = [handler]
    root.setLevel(level.upper())
    root.propagate = False
