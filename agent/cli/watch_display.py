"""How `mdt watch` shows what it hears: a live table, plain lines, or JSON lines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from typing import Protocol, TextIO

from agent.cli.watch_table import LiveTable, Picture, event_line, link_line, location_line
from agent.domain.record import Emergency, Position, Telemetry
from agent.domain.state import LocationState, State
from agent.runtime.plain_text import harmless
from agent.wire.batch_json import record_to_json
from agent.wire.codec import JournalRecord
from agent.wire.state_codec import state_to_json
from agent.wire.topics import Topics

_LOCATION_EVERY_MS = 10_000
_RING_EVERY_MS = 2_000


class Display(Protocol):
    """Shows what dispatch sees."""

    def show_state(self, topics: Topics, state: State) -> None:
        """A retained state arrived."""
        ...

    def show_records(self, topics: Topics, records: Sequence[JournalRecord]) -> None:
        """New journal records arrived."""
        ...

    def note(self, text: str) -> None:
        """Something about the watching itself."""
        ...

    def refresh(self) -> None:
        """Draw what has changed; called a few times a second."""
        ...


class JsonDisplay:
    """One JSON object a line: every record as in the JSON form of a batch, every state with its name."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._err = err

    def show_state(self, topics: Topics, state: State) -> None:
        """See `Display.show_state`."""
        try:
            fields = json.loads(state_to_json(state))
        except OverflowError:
            self.note(f"{topics.unit} state {state.name}: its time lies beyond the calendar")
            return
        self._write({"agency": topics.agency, "unit": topics.unit, "state": state.name, **fields})

    def show_records(self, topics: Topics, records: Sequence[JournalRecord]) -> None:
        """See `Display.show_records`."""
        for one in records:
            extra: dict[str, object] = {
                "agency": topics.agency,
                "history": one.history,
                "replay": one.replay,
            }
            if one.conflict:
                extra["conflict"] = True
            try:
                self._write(extra | record_to_json(one))
            except OverflowError:
                self.note(f"{one.unit} {one.stream} {one.seq}: its time lies beyond the calendar")

    def note(self, text: str) -> None:
        """See `Display.note`; standard output is for records only."""
        self._err.write(f"{harmless(text)}\n")

    def refresh(self) -> None:
        """See `Display.refresh`."""
        self._out.flush()

    def _write(self, line: dict[str, object]) -> None:
        # Escaped down to ASCII: some of what lies beyond it acts on a terminal, too.
        self._out.write(json.dumps(line) + "\n")


class TextDisplay:
    """For a person: on a terminal events scroll above a live table, elsewhere everything is plain lines."""

    def __init__(self, out: TextIO, now_ms: Callable[[], int]) -> None:
        self._out = out
        self._now_ms = now_ms
        self._picture = Picture()
        self._events: list[str] = []
        self._live = LiveTable(out) if out.isatty() else None
        self._located_ms: dict[Topics, int] = {}
        self._rings = False
        self._rang_ms = -_RING_EVERY_MS
        self._drawn: tuple[str, ...] = ()

    def show_state(self, topics: Topics, state: State) -> None:
        """See `Display.show_state`."""
        view = self._picture.view(topics)
        emergency = view.emergency
        if view.note_state(state, self._now_ms()):
            self._events.append(link_line(view, self._now_ms(), colour=self._live is not None))
        if view.emergency and not emergency:
            self._rings = True
        if isinstance(state, LocationState) and self._live is None and self._location_is_due(topics):
            self._events.append(location_line(view))

    def show_records(self, topics: Topics, records: Sequence[JournalRecord]) -> None:
        """See `Display.show_records`; positions and telemetry are in the table, not in the list."""
        view = self._picture.view(topics)
        for record in records:
            view.note_record(record)
            if not isinstance(record.body, Position | Telemetry):
                self._events.append(event_line(record, self._now_ms(), colour=self._live is not None))
            if isinstance(record.body, Emergency) and record.body.active and not record.replay:
                self._rings = True

    def note(self, text: str) -> None:
        """See `Display.note`."""
        self._events.append(harmless(text))

    def refresh(self) -> None:
        """See `Display.refresh`."""
        events, self._events = self._events, []
        if self._live is None:
            self._out.write("".join(f"{line}\n" for line in events))
            self._out.flush()
            return
        size = shutil.get_terminal_size()
        table = self._picture.table(self._now_ms(), size.columns - 1, colour=True, most=size.lines - 1)
        if events or tuple(table) != self._drawn:
            self._live.show(events, table)
            self._drawn = tuple(table)
        self._ring()

    def _ring(self) -> None:
        """The terminal's bell for an emergency that is new, now and then at most, whatever units say."""
        if self._rings and self._now_ms() - self._rang_ms >= _RING_EVERY_MS:
            self._rings, self._rang_ms = False, self._now_ms()
            self._out.write("\a")
            self._out.flush()

    def _location_is_due(self, topics: Topics) -> bool:
        now_ms = self._now_ms()
        if now_ms - self._located_ms.get(topics, -_LOCATION_EVERY_MS) < _LOCATION_EVERY_MS:
            return False
        self._located_ms[topics] = now_ms
        return True
