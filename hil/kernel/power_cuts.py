"""Cut the power at random moments, boot again, and hold the outbox to every word its lamps said.

Inside a real kernel on a real ext4 the guest's program presses buttons and says on the console when a press
is stored. The power goes; the same disk boots again: file system check, journal, SQLite's recovery, the
outbox's own. At the end everything is delivered. `Ledger` is the judge; it lives on the host and outlives
the cuts.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hil.kernel.disk import make_disk
from hil.kernel.guest_outbox import PRESS_STRIDE
from hil.kernel.linux import Linux, RigUnavailable, find_linux
from hil.kernel.machine import GuestFaultError, Hardware, Machine, Message

BOOT_TIMEOUT_S = 60.0
DRAIN_TIMEOUT_S = 120.0
CUT_IN_RECOVERY = 0.15
"""This share of the cuts falls in the boot itself, from the file system check to after the store opened."""


@dataclass(slots=True)
class Ledger:
    """What was promised, what was found, and every difference between the two.

    Attributes:
        faults: one line for each broken promise.
        acknowledged: sequence number of each press whose lamp said "stored".
        reached: (press, content) that dispatch has, by sequence number.
        lost: acknowledged presses that the store or dispatch did not have.
    """

    faults: list[str] = field(default_factory=list)
    acknowledged: dict[int, int] = field(default_factory=dict)
    reached: dict[int, tuple[str, str]] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    altered: int = 0
    positions_lost: int = 0
    not_opened: int = 0
    audited_seq: int = 0
    audited_trail_seq: int = 0
    _last_found: int = 0
    _last_trail: int = 0
    _put: dict[int, str] = field(default_factory=dict)
    _stored: dict[int, tuple[str, str]] = field(default_factory=dict)
    _promised_positions: dict[int, int] = field(default_factory=dict)
    _found_positions: dict[int, int] = field(default_factory=dict)
    _owed: set[int] = field(default_factory=set)
    _journal: str | None = None

    def hear(self, message: Message, run: int) -> None:
        """Take one message of boot number `run`."""
        match message.word, *message.rest:
            case "PUT", number, crc:
                self._put[int(number)] = crc
            case "ACK", number, seq, positions:
                self.acknowledged[int(number)] = int(seq)
                self._owed.add(int(number))
                self._promised_positions[run] = max(self._promised_positions.get(run, 0), int(positions))
            case "OPEN", journal, _boot, last_events, last_trail:
                self._opened(journal, int(last_events))
                self._last_trail = int(last_trail)
            case "ROW", seq, number, crc:
                self._found(int(seq), number, crc)
            case "TRAIL", earlier, first, last, count:
                self._trail(int(earlier), int(first), int(last), int(count))
            case "SENT", seq, number, crc:
                self._sent(int(seq), number, crc)

    def audit(self) -> int:
        """After the ROWs of a boot: the presses acknowledged before are there. Returns how many are not."""
        lost = sorted(self._owed - {int(n) for n, _ in self._stored.values() if n != "-"})
        self._blame_lost(lost, "not in the store after the cut")
        for run, promised in self._promised_positions.items():
            found = self._found_positions.get(run, 0)
            if found < promised:
                self.positions_lost += promised - found
                self.faults.append(f"run {run}: {promised} positions were committed, {found} found")
        self._promised_positions.clear()
        self._owed.clear()
        self.audited_seq = self._last_found
        self.audited_trail_seq = self._last_trail
        return len(lost)

    def close(self) -> None:
        """After all was delivered: each acknowledged press reached dispatch, exactly once, in order."""
        numbers = [int(number) for _, (number, _) in sorted(self.reached.items()) if number != "-"]
        self._blame_lost(sorted(set(self.acknowledged) - set(numbers)), "never reached dispatch")
        if len(numbers) != len(set(numbers)):
            self.altered += 1
            self.faults.append("a press reached dispatch under two sequence numbers")
        if numbers != sorted(numbers):
            self.altered += 1
            self.faults.append("presses reached dispatch out of order")
        seqs = sorted(self.reached)
        if seqs and seqs[-1] - seqs[0] + 1 != len(seqs):
            self.faults.append("the sequence that dispatch has, has holes")

    def _blame_lost(self, lost: list[int], what: str) -> None:
        self.lost.update(lost)
        if lost:
            self.faults.append(f"{len(lost)} acknowledged presses {what}, first {lost[0]}, last {lost[-1]}")

    def _opened(self, journal: str, last_seq: int) -> None:
        if self._journal not in (None, journal):
            self.faults.append(f"the store began a new journal: {self._journal} became {journal}")
        self._journal = journal
        highest = max(self.acknowledged.values(), default=0)
        if last_seq < highest:
            self.faults.append(f"the store counts to {last_seq}, but {highest} had been acknowledged")

    def _found(self, seq: int, number: str, crc: str) -> None:
        if number == "-":
            self.faults.append(f"record {seq} is no press: the store was repaired")
        elif self._put.get(int(number), crc) != crc:
            self._altered(f"press {number}, record {seq}, is not as it was put")
        elif self.acknowledged.get(int(number), seq) != seq:
            self._altered(
                f"press {number} was acknowledged as {self.acknowledged[int(number)]}, found as {seq}"
            )
        if seq > self._last_found + 1:
            self.faults.append(f"records {self._last_found + 1} to {seq - 1} are missing")
        self._last_found = max(self._last_found, seq)
        if self._stored.setdefault(seq, (number, crc)) != (number, crc):
            self._altered(f"record {seq} changed")

    def _sent(self, seq: int, number: str, crc: str) -> None:
        if self.reached.setdefault(seq, (number, crc)) != (number, crc):
            self._altered(f"record {seq} reached dispatch twice, with different content")
        if number != "-" and self._put.get(int(number), crc) != crc:
            self._altered(f"press {number} reached dispatch altered")

    def _trail(self, run: int, first: int, last: int, count: int) -> None:
        self._found_positions[run] = last
        if last - first + 1 != count:
            self.faults.append(f"run {run}: positions {first} to {last} are {count}")

    def _altered(self, fault: str) -> None:
        self.altered += 1
        self.faults.append(fault)


@dataclass(frozen=True, slots=True)
class Workload:
    """A guest program that is cut.

    Attributes:
        module: Python module that speaks as `hil.kernel.guest_outbox` does.
        audits: it says at each boot what the store holds, so that each cut is judged by itself.
        cut_within_s: a cut falls between the first press and this long after it.
        recovery_s: how long a boot takes from the file system check to the first press, about.
    """

    module: str
    audits: bool
    cut_within_s: float
    recovery_s: float


WORKLOADS = {
    # The outbox alone sees ten times the presses; the daemon is what the vehicle runs.
    "outbox": Workload("hil.kernel.guest_outbox", audits=True, cut_within_s=0.9, recovery_s=1.5),
    "daemon": Workload("hil.kernel.guest_daemon", audits=False, cut_within_s=2.0, recovery_s=4.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is cut, and how.

    Attributes:
        workload: name in WORKLOADS.
        synchronous: the store's mode; anything but FULL is there to prove that a loss is seen.
        cuts: how many.
        seed: decides the moments, the presses and the link.
        jobs: machines at the same time, each with a disk of its own.
    """

    workload: str = "daemon"
    synchronous: str = "FULL"
    cuts: int = 50
    seed: int = 1
    jobs: int = 2


@dataclass(slots=True)
class Lane:
    """One machine and its disk, cut again and again. Not thread-safe: one thread drives it."""

    linux: Linux
    plan: Plan
    disk: Path
    dice: random.Random
    ledger: Ledger = field(default_factory=Ledger)
    full_repairs: int = 0
    cuts_in_recovery: int = 0
    runs: int = 0

    @property
    def _workload(self) -> Workload:
        return WORKLOADS[self.plan.workload]

    def cut(self) -> None:
        """Boot, let it work, cut the power at a random moment; the boot also judges the cut before."""
        in_recovery = self.dice.random() < CUT_IN_RECOVERY
        self.cuts_in_recovery += in_recovery
        link = self.dice.choice(("up", "down"))
        with self._boot("--link", link) as machine:
            if in_recovery:
                self._until(machine, "FSCK")
                moment_s = self.dice.uniform(0, self._workload.recovery_s)
            else:
                self._until(machine, "READY")
                moment_s = self.dice.uniform(0.02, self._workload.cut_within_s)
            self._listen(machine, moment_s)
            for message in machine.power_cut():
                self._hear(message)

    def deliver(self) -> None:
        """Boot a last time and let everything be delivered."""
        with self._boot("--drain", audit_after=0) as machine:
            self._until(machine, "DRAINED", DRAIN_TIMEOUT_S)
            self._until(machine, "OFF")
        if self._workload.audits:
            self.ledger.audit()
        self.ledger.close()

    def _boot(self, *arguments: str, audit_after: int | None = None) -> Machine:
        self.runs += 1
        after = self.ledger.audited_seq if audit_after is None else audit_after
        program = [
            self._workload.module,
            "--directory=/run/data/store",
            f"--synchronous={self.plan.synchronous}",
            f"--seed={self.dice.randrange(1 << 30)}",
            f"--run={self.runs}",
            f"--audit-after={after}",
            f"--audit-trail-after={self.ledger.audited_trail_seq}",
            *arguments,
        ]
        return Machine(self.linux, program, Hardware(disk=self.disk, loopback=True))

    def _until(self, machine: Machine, word: str, timeout_s: float = BOOT_TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while (message := machine.next_message(max(0.1, deadline - time.monotonic()))) is not None:
            self._hear(message)
            if message.word == word:
                return
            if message.word in ("EXIT", "FAULT") and word != "OFF":
                break
        self.ledger.not_opened += 1
        raise GuestFaultError(f"no {word} from the guest; its last words:\n" + "\n".join(machine.said))

    def _listen(self, machine: Machine, duration_s: float) -> None:
        for message in machine.messages(duration_s):
            self._hear(message)
            if message.word in ("EXIT", "FAULT"):
                raise GuestFaultError("the guest's program ended:\n" + "\n".join(machine.said))

    def _hear(self, message: Message) -> None:
        if message.word == "FSCK" and int(message.rest[0]) >= 4:
            self.full_repairs += 1
        elif message.word == "READY" and self._workload.audits:
            self.ledger.audit()
        else:
            self.ledger.hear(message, self.runs)


def cut_power(linux: Linux, plan: Plan) -> dict[str, object]:
    """Carry out `plan`. Returns the report that `--json` writes.

    Raises:
        RigUnavailable: when a tool is missing.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mdt-power-cuts-") as folder:
        lanes = []
        for number in range(max(1, min(plan.jobs, plan.cuts))):
            disk = Path(folder) / f"{number}.img"
            make_disk(disk, size_mib=128)
            lanes.append(Lane(linux, plan, disk, random.Random(f"{plan.seed}/{number}")))
        with ThreadPoolExecutor(len(lanes)) as pool:
            list(pool.map(_drive, lanes, [len(range(n, plan.cuts, len(lanes))) for n in range(len(lanes))]))
    return _report(linux, plan, lanes, time.monotonic() - started)


def _drive(lane: Lane, cuts: int) -> None:
    try:
        for _ in range(cuts):
            lane.cut()
        lane.deliver()
    except (GuestFaultError, TimeoutError) as error:
        # A store that can not be opened by itself is a result, and the worst one.
        lane.ledger.faults.append(str(error))


def _report(linux: Linux, plan: Plan, lanes: list[Lane], wall_s: float) -> dict[str, object]:
    ledgers = [lane.ledger for lane in lanes]
    cuts = sum(lane.runs for lane in lanes) - len(lanes)
    return {
        **asdict(plan),
        "kernel": linux.path.name,
        "cuts_done": cuts,
        "cuts_in_recovery": sum(lane.cuts_in_recovery for lane in lanes),
        "presses_acknowledged": sum(len(ledger.acknowledged) for ledger in ledgers),
        "presses_reached": sum(len(ledger.reached) for ledger in ledgers),
        "presses_lost": sum(len(ledger.lost) for ledger in ledgers),
        "altered": sum(ledger.altered for ledger in ledgers),
        "positions_lost": sum(ledger.positions_lost for ledger in ledgers),
        "lossy_cuts": sum(len({number // PRESS_STRIDE for number in ledger.lost}) for ledger in ledgers),
        "not_opened": sum(ledger.not_opened for ledger in ledgers),
        "full_repairs": sum(lane.full_repairs for lane in lanes),
        "faults": [fault for ledger in ledgers for fault in ledger.faults],
        "wall_s": round(wall_s, 1),
        "per_cut_s": round(wall_s / max(1, cuts), 2),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m hil power-cuts`."""
    parser.add_argument("--count", type=int, default=50, help="power cuts (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="decides moments, presses and link")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument(
        "--synchronous",
        choices=("FULL", "NORMAL", "OFF"),
        default="FULL",
        help="the store's mode; a weaker one than FULL must be found to lose",
    )
    parser.add_argument(
        "--workload",
        choices=sorted(WORKLOADS),
        default="daemon",
        help="what is cut: the daemon, or the outbox alone at ten times the rate (default: %(default)s)",
    )
    parser.add_argument(
        "--jobs", type=int, default=2, help="machines at the same time (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Carry out `python -m hil power-cuts`: 0 nothing lost, 1 something was, 2 the rig can not run here."""
    plan = Plan(
        workload=args.workload,
        synchronous=args.synchronous,
        cuts=args.count,
        seed=args.seed,
        jobs=args.jobs,
    )
    try:
        report = cut_power(find_linux(), plan)
    except RigUnavailable as reason:
        print(f"power-cuts: {reason}")
        return 2
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    faults = report["faults"]
    assert isinstance(faults, list)
    print(
        f"{report['cuts_done']} power cuts ({report['cuts_in_recovery']} while starting), "
        f"synchronous={plan.synchronous}: {report['presses_acknowledged']} presses stored, "
        f"{report['presses_lost']} lost in {report['lossy_cuts']} cuts, {report['altered']} altered, "
        f"{report['not_opened']} times the store did not open; {report['wall_s']} s, "
        f"{report['per_cut_s']} s a cut"
    )
    for fault in faults[:20]:
        print(f"  {fault}")
    return 1 if faults else 0
