"""What a run gave: everything that expectations and the report look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from agent.domain.record import ClockCorrection, Kind, Stream
from agent.domain.state import LinkState, State
from agent.reader.clock_corrections import corrected
from agent.reader.journal_reader import ReaderCounts
from agent.wire.batch import JournalRecord
from hil.dispatch import Arrival, StateArrival
from hil.drive.items import TruthItem
from hil.process.press_log import LoggedPress
from hil.rig import RigKind, RigState, Sample
from hil.scenario.fault import Fault


@dataclass(frozen=True, slots=True)
class FaultSpan:
    """A fault as it happened. Times are the loop's.

    Attributes:
        fault: its settings.
        from_s: when it was applied.
        to_s: when it was lifted.
        from_drive_s: when it was applied, in seconds of the drive.
        to_drive_s: when it was lifted.
    """

    fault: Fault
    from_s: float
    to_s: float
    from_drive_s: float
    to_drive_s: float


@dataclass
class Observation:
    """One run of a scenario.

    Attributes:
        title: of the scenario.
        rig: where it ran.
        seed: it ran with.
        drive_name: what was driven.
        start_utc_ms: true UTC at the start of the drive.
        began_s: loop time at the start of the drive.
        speed: seconds of the drive in one second of the rig.
        truth: what was really so, once a second.
        faults: as they happened, in the order of their beginning.
        presses: every press.
        arrivals: every record dispatch had, in the order it came.
        state_history: every state dispatch had.
        states: the newest of each name, when the drive was over and all was delivered.
        refused: payloads dispatch could not read.
        counts: what dispatch's reader did.
        samples: the agent, once in a while.
        rig_history: (loop time, state) of the rig.
        made: last sequence number of each stream in the store, after the run.
        delivered: nothing waited in the end.
        starts: how often the daemon was started.
        drive_over_s: loop time at which the drive and its last fault were over.
        daemon_ends_s: loop times at which a daemon ended.
        boot_began_s: kernel boot id to the loop time of its CLOCK_BOOTTIME 0.
        digest: of the journal, where the rig tells one; empty otherwise.
        wall_s: how long the run took.
        agent_log: the end of the daemon's log, where it has one.
    """

    title: str
    rig: RigKind
    seed: int
    drive_name: str
    start_utc_ms: int
    began_s: float
    speed: float
    truth: Sequence[TruthItem]
    faults: Sequence[FaultSpan]
    presses: Sequence[LoggedPress]
    arrivals: Sequence[Arrival]
    state_history: Sequence[StateArrival]
    states: Mapping[str, State]
    refused: Sequence[str]
    counts: ReaderCounts
    samples: Sequence[Sample]
    rig_history: Sequence[tuple[float, RigState]]
    made: Mapping[Stream, int]
    delivered: bool
    starts: int
    drive_over_s: float
    daemon_ends_s: Sequence[float]
    boot_began_s: Mapping[str, float]
    digest: str = ""
    wall_s: float = 0.0
    agent_log: str = ""

    @cached_property
    def records(self) -> list[JournalRecord]:
        """Every record, in the order it came, with its UTC as it is known in the end."""
        records = [arrival.record for arrival in self.arrivals]
        for clock in list(records):
            if not isinstance(clock.body, ClockCorrection):
                continue
            for at, record in enumerate(records):
                if record.journal == clock.journal and record.boot == clock.body.of_boot:
                    records[at] = corrected(record, clock.body)
        return records

    @cached_property
    def truth_at(self) -> dict[int, TruthItem]:
        """True UTC in milliseconds to the truth."""
        return {item.utc_ms: item for item in self.truth}

    @property
    def ended_s(self) -> float:
        """Loop time of the last thing that happened."""
        return max([self.began_s, *(sample.at_s for sample in self.samples)])

    def of(self, *kinds: Kind) -> list[Arrival]:
        """Arrivals of some kinds."""
        return [arrival for arrival in self.arrivals if arrival.record.kind in kinds]

    def drive_s(self, at_s: float) -> float:
        """Seconds of the drive at a loop time."""
        return (at_s - self.began_s) * self.speed

    def utc_ms(self, at_s: float) -> float:
        """True UTC at a loop time."""
        return self.start_utc_ms + self.drive_s(at_s) * 1000

    def made_at_s(self, record: JournalRecord) -> float | None:
        """Loop time at which a record's event happened, by its boot clock; None for an unknown boot."""
        boot_id = self._boot_ids.get((record.boot, record.journal))
        began_s = None if boot_id is None else self.boot_began_s.get(boot_id)
        return None if began_s is None else began_s + record.boottime_ms / 1000

    @cached_property
    def _boot_ids(self) -> dict[tuple[int, int], str]:
        links = [one.state for one in self.state_history if isinstance(one.state, LinkState)]
        return {(link.boot, link.journal): link.boot_id for link in links}

    def truth_of(self, record: JournalRecord) -> TruthItem | None:
        """What was so at a record's epoch; by its boot clock where the receiver did not tell the date yet."""
        if record.utc_ms is not None and record.utc_ms in self.truth_at:
            return self.truth_at[record.utc_ms]
        at_s = self.made_at_s(record)
        if at_s is None:
            return None
        return self.truth_at.get(self.start_utc_ms + round(self.drive_s(at_s)) * 1000)

    def in_fault(self, at_s: float, *, after_s: float = 0.0) -> bool:
        """Whether a fault lasts at a loop time, or ended less than `after_s` before it."""
        return any(span.from_s <= at_s <= span.to_s + after_s for span in self.faults)
