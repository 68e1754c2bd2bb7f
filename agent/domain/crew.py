"""What the crew's buttons mean: edges of buttons become status changes and emergencies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from agent.domain.chatter import Heard, PressLimit, ToldSeldom
from agent.domain.record import Alert, AlertCode, Body, Emergency, StatusChange, Withdrawal
from agent.domain.status import MOMENTARY

EMERGENCY: Final = "emergency"
"""The meaning of a key that is no unit status."""

COLLAPSE_NS: Final = 2_000_000_000
"""Presses of one emergency or momentary key closer than this to the last recorded one say nothing new."""

UNDO_HOLD_NS: Final = 1_000_000_000
"""The key of the status that holds, held for so long, takes it back: a press to be sure is shorter."""

CANCEL_AFTER_NS: Final = 5_000_000_000
CANCEL_WITHIN_NS: Final = 20_000_000_000
"""A hold between these two cancels an emergency; a longer one is a jammed button, or somebody lying on it."""

CANCEL_TOLD_NS: Final = 19_000_000_000
"""Until here the crew is told that letting go cancels: who follows that is not too late."""

CANCEL_GUARD_NS: Final = 10_000_000_000
"""A hold cancels only when the button had been left alone for this long: a person under attack presses hard,
often and long, and that must never take the alarm back."""

UNKNOWN_KEYS_TOLD: Final = 32
"""Bound of the alerts about unknown keys in one run: alerts are never evicted from the outbox."""


@dataclass(frozen=True, slots=True)
class ButtonEdge:
    """A button went down or up, debounced by the device.

    Attributes:
        key: the button's name in the configuration, e.g. "on_scene".
        pressed: True on press, False on release.
        device_seq: the device's own sequence number, ascending within `device_session`; None if it has none.
        at_boottime_ns: CLOCK_BOOTTIME of the edge as well as the device tells it. Negative for a press that a
            box kept while the computer was off or starting.
        device_session: which power-up of the device `device_seq` counts in; None when the device keeps no
            edges, so that nothing is ever repeated and there is nothing to remove.
        inferred: True when the edge itself was missed and only the level after it was seen; the time is then
            when that was noticed.
    """

    key: str
    pressed: bool
    device_seq: int | None
    at_boottime_ns: int
    device_session: int | None = None
    inferred: bool = False


@dataclass(frozen=True, slots=True)
class CrewState:
    """What a restart must know of the presses before it.

    Attributes:
        status: token of the status that holds; None when none was ever set.
        emergency: True while an emergency is raised and not cancelled.
        emergency_test: True while that is a test.
        press_session: session of the last press on record that had one.
        press_seq: its sequence number.
    """

    status: str | None = None
    emergency: bool = False
    press_session: int | None = None
    press_seq: int | None = None
    emergency_test: bool = False

    def after(self, bodies: Iterable[StatusChange | Emergency | Withdrawal]) -> CrewState:
        """The state after `bodies`, oldest first. The latest of each kind is enough to start again from.

        A withdrawal counts only when it takes back the newest status: leave out any other.
        """
        status, emergency, test = self.status, self.emergency, self.emergency_test
        session, seq = self.press_session, self.press_seq
        for body in bodies:
            match body:
                case Emergency():
                    emergency, test = body.active, body.active and bool(body.test)
                case StatusChange() if body.status in MOMENTARY:
                    status = body.previous
                case StatusChange() | Withdrawal():
                    status = body.status
            if body.press_session is not None:
                session, seq = body.press_session, body.press_seq
        return CrewState(status, emergency, session, seq, test)


@dataclass(frozen=True, slots=True)
class CrewOutcome:
    """What an edge leads to.

    Attributes:
        bodies: records to put, in this order; the edge may be acknowledged once all are committed, at once
            when there are none.
        show: key whose lamp tells what becomes of `bodies`; when there are none it is shown again as it is.
            Named for every press: a box lights "not stored" by itself and waits for an answer.
        darken: keys whose lamp goes out (with `bodies`, once they are stored), because what it told is over.
        withdraws: True when the last status is taken back: the one before it holds again.
    """

    bodies: tuple[Body, ...] = ()
    show: str | None = None
    darken: tuple[str, ...] = ()
    withdraws: bool = False


@dataclass(frozen=True, slots=True)
class _Undo:
    previous: str | None
    key: str
    set_at_ns: int


@dataclass(frozen=True, slots=True)
class _Hold:
    pressed_at_ns: int
    may_cancel: bool


class CrewRules:
    """Turns edges into records. Used from one thread.

    - A press sets the status of its key. Pressed again while that status holds, it says nothing new: crews
      press again to be sure, and the time of the first press is the one that counts.
    - A momentary status (a request to talk) leaves the status before it in force and can be repeated.
    - The emergency key raises at once, every time it is pressed. Only what was announced as a test while it
      was pressed is one, and only while no emergency stands: the next press is meant, however soon it comes.
    - An emergency is cancelled by a deliberate hold: begun after the key was left alone for
      `CANCEL_GUARD_NS`, released after `CANCEL_AFTER_NS` and before `CANCEL_WITHIN_NS`. The press that begins
      such a hold is recorded as a press first: nothing waits to see how long it will be.
    - The last status is taken back, for a while, by its own key held for `UNDO_HOLD_NS`, or by `undo`.
    - Releases mean nothing else.
    - What chatters makes no records after a while (`PressLimit`), and is told; an emergency that is not
      raised yet is never left out. Alerts about lost edges and chatter come seldom, with a count.

    Args:
        keys: key name to unit status token, or to "emergency".
        state: where the last run ended.
        undo_ns: how long after its press a status can be taken back; 0 for never.
    """

    def __init__(self, keys: Mapping[str, str], state: CrewState, *, undo_ns: int = 0) -> None:
        self._undo_ns = undo_ns
        self._undo: _Undo | None = None
        self._undo_holds: dict[str, int] = {}
        self._keys = keys
        self._state = state
        self._live_session: int | None = None
        self._limit = PressLimit()
        self._lost = ToldSeldom()
        self._left_out = ToldSeldom()
        self._chattered = ""
        self._unknown: set[str] = set()
        self._holds: dict[str, _Hold] = {}
        self._recorded_at_ns: dict[str, int] = {}
        self._emergency_pressed_at_ns: int | None = None

    @property
    def state(self) -> CrewState:
        """The state after the last edge, whether or not its records are stored by now."""
        return self._state

    def adopt(self, stored: CrewState, recorded_at_ns: Mapping[str, int] | None = None) -> None:
        """Take up where the last run ended, also when the store could only be read after presses of this run.

        Args:
            stored: the state at its end.
            recorded_at_ns: CLOCK_BOOTTIME of this boot at which a run before recorded the last press of an
                emergency or momentary key. Pressed again at once it says nothing new, across a restart too.
        """
        for key, at_ns in (recorded_at_ns or {}).items():
            self._recorded_at_ns.setdefault(key, at_ns)
        now = self._state
        numbered = now.press_session is not None
        self._state = CrewState(
            status=stored.status if now.status is None else now.status,
            emergency=now.emergency or stored.emergency,
            press_session=now.press_session if numbered else stored.press_session,
            press_seq=now.press_seq if numbered else stored.press_seq,
            emergency_test=now.emergency_test if now.emergency else stored.emergency_test,
        )

    def handle(self, edge: ButtonEdge, now_ns: int | None = None, *, test: bool = False) -> CrewOutcome:
        """Take the next edge of the panel. A repeat of one handled before makes no record.

        Args:
            edge: the edge.
            now_ns: CLOCK_BOOTTIME of its arrival; without it that of the edge.
            test: True when somebody says at the moment of the edge that an emergency would be a test.
        """
        now_ns = edge.at_boottime_ns if now_ns is None else now_ns
        if self._is_repeat(edge):
            return CrewOutcome(show=edge.key if edge.pressed else None)
        self._lost.add(self._count(edge))
        outcome = self._pressed(edge, now_ns, test=test) if edge.pressed else self._released(edge)
        if outcome.show is not None and not outcome.bodies:
            return outcome  # an alert on its own would take the lamp of a press that says nothing new
        return replace(outcome, bodies=(*self.due(now_ns), *outcome.bodies))

    def due(self, now_ns: int) -> tuple[Alert, ...]:
        """Alerts that must be put now: what was lost or left out since they were told last."""
        alerts = []
        if lost := self._lost.due(now_ns):
            alerts.append(
                Alert(AlertCode.BUTTON_EDGES_LOST, f"The button panel lost {lost} presses or releases.")
            )
        if left_out := self._left_out.due(now_ns):
            why = f"Key {self._chattered!r} chatters: {left_out} presses were left out until it is quiet."
            alerts.append(Alert(AlertCode.BUTTON_CHATTER, why))
        return tuple(alerts)

    def _is_repeat(self, edge: ButtonEdge) -> bool:
        last = self._state
        return (
            edge.device_session is not None
            and edge.device_session == last.press_session
            and edge.device_seq is not None
            and last.press_seq is not None
            and edge.device_seq <= last.press_seq
        )

    def _count(self, edge: ButtonEdge) -> int:
        """Note the edge's number; returns how many before it never came."""
        session, seq, last = edge.device_session, edge.device_seq, self._state
        if session is None or seq is None:
            return 0
        lost = 0
        if session != self._live_session:
            # The first edge of a power-up, or of this run: what came before it may have been acknowledged
            # long ago. A panel that was switched off has forgotten which keys are down.
            self._live_session = session
            self._holds.clear()
        elif last.press_seq is not None:
            lost = seq - last.press_seq - 1
        self._state = replace(last, press_session=session, press_seq=seq)
        return lost

    def _pressed(self, edge: ButtonEdge, now_ns: int, *, test: bool) -> CrewOutcome:
        token = self._keys.get(edge.key)
        if token is None:
            return self._unknown_key(edge.key)
        self._limit.touch(edge.key, edge.at_boottime_ns)
        if token == EMERGENCY:
            return self._emergency(edge, now_ns, test=test)
        if token in MOMENTARY:
            if self._says_nothing_new(edge) or self._chatters(edge, now_ns):
                return CrewOutcome(show=edge.key)
            return CrewOutcome((self._change(token, edge),), show=edge.key)
        if token == self._state.status and self.undo_left_ns(edge.at_boottime_ns) and not edge.inferred:
            self._undo_holds[edge.key] = edge.at_boottime_ns
        if token == self._state.status or self._chatters(edge, now_ns):
            return CrewOutcome(show=edge.key)
        change = self._change(token, edge)
        over = tuple(
            key for key, other in self._keys.items() if other not in (token, EMERGENCY) and key != edge.key
        )
        self._undo = _Undo(self._state.status, edge.key, edge.at_boottime_ns)
        self._undo_holds.clear()
        self._state = replace(self._state, status=token)
        return CrewOutcome((change,), show=edge.key, darken=over)

    def undo_left_ns(self, now_ns: int) -> int:
        """How long the last status can still be taken back; 0 when it can not."""
        if self._undo is None:
            return 0
        passed_ns = now_ns - self._undo.set_at_ns
        return max(0, self._undo_ns - passed_ns) if passed_ns >= 0 else 0

    def undo(self, now_ns: int) -> CrewOutcome:
        """Take the last status back; nothing when it is too late, or was taken back already."""
        if not self.undo_left_ns(now_ns) or self._undo is None:
            return CrewOutcome()
        taken, self._undo = self._undo, None
        self._state = replace(self._state, status=taken.previous)
        return CrewOutcome(darken=(taken.key,), withdraws=True)

    def sleep_over(self) -> None:
        """The computer slept: whether a key that is held was held all the while, nobody knows."""
        self._holds.clear()
        self._undo_holds.clear()

    def amend_status(self, status: str) -> None:
        """The status that holds was corrected: it is not the one that was pressed."""
        self._state = replace(self._state, status=status)
        self._undo = None

    def cancelling(self, now_ns: int) -> tuple[str, ...]:
        """Keys that are held so that letting them go now cancels the emergency."""
        if not self._state.emergency:
            return ()
        return tuple(
            key
            for key, hold in self._holds.items()
            if hold.may_cancel and CANCEL_AFTER_NS <= now_ns - hold.pressed_at_ns < CANCEL_TOLD_NS
        )

    def cancel_emergency(self) -> CrewOutcome:
        """End the emergency by a word of somebody who may; nothing when there is none."""
        if not self._state.emergency:
            return CrewOutcome()
        keys = tuple(key for key, token in self._keys.items() if token == EMERGENCY)
        return self._cancelled(Emergency(False, keys[0] if keys else EMERGENCY, None))

    def _change(self, token: str, edge: ButtonEdge) -> StatusChange:
        return StatusChange(token, self._state.status, edge.key, edge.device_seq, edge.device_session)

    def _chatters(self, edge: ButtonEdge, now_ns: int) -> bool:
        """Whether a press that would make a record is left out."""
        again = self._keys.get(edge.key) == EMERGENCY
        heard = self._limit.hear(edge.key, edge.at_boottime_ns, now_ns, again=again)
        if heard is Heard.TAKEN:
            return False
        self._left_out.add(1)
        self._chattered = edge.key
        return True

    def _emergency(self, edge: ButtonEdge, now_ns: int, *, test: bool) -> CrewOutcome:
        at_ns, before_ns = edge.at_boottime_ns, self._emergency_pressed_at_ns
        # After a restart nobody knows when the button was last touched: its first press never cancels.
        left_alone = before_ns is not None and at_ns - before_ns >= CANCEL_GUARD_NS
        may_cancel = self._state.emergency and left_alone and not edge.inferred
        self._holds[edge.key] = _Hold(at_ns, may_cancel=may_cancel)
        self._emergency_pressed_at_ns = at_ns
        stands = self._state.emergency
        meant = stands and not self._state.emergency_test
        if meant and (self._says_nothing_new(edge) or self._chatters(edge, now_ns)):
            return CrewOutcome(show=edge.key)
        self._recorded_at_ns[edge.key] = at_ns
        test = test and not stands
        self._state = replace(self._state, emergency=True, emergency_test=test)
        raised = Emergency(
            True, edge.key, edge.device_seq, edge.device_session, repeat=stands or None, test=test or None
        )
        return CrewOutcome((raised,), show=edge.key)

    def _released(self, edge: ButtonEdge) -> CrewOutcome:
        held_from_ns = self._undo_holds.pop(edge.key, None)
        if (
            held_from_ns is not None
            and not edge.inferred
            and edge.at_boottime_ns - held_from_ns >= UNDO_HOLD_NS
        ):
            return self.undo(held_from_ns)
        hold = self._holds.pop(edge.key, None)
        # How long a hold was is known only when both its ends were seen.
        if hold is None or not hold.may_cancel or edge.inferred or not self._state.emergency:
            return CrewOutcome()
        if not CANCEL_AFTER_NS <= edge.at_boottime_ns - hold.pressed_at_ns < CANCEL_WITHIN_NS:
            return CrewOutcome()
        return self._cancelled(Emergency(False, edge.key, edge.device_seq, edge.device_session))

    def _cancelled(self, body: Emergency) -> CrewOutcome:
        body = replace(body, test=self._state.emergency_test or None)
        self._state = replace(self._state, emergency=False, emergency_test=False)
        keys = tuple(key for key, token in self._keys.items() if token == EMERGENCY)
        return CrewOutcome((body,), darken=keys)

    def _says_nothing_new(self, edge: ButtonEdge) -> bool:
        """True for a press close to the last recorded one of its key; otherwise it is the recorded one."""
        recorded_ns = self._recorded_at_ns.get(edge.key)
        if recorded_ns is not None and abs(edge.at_boottime_ns - recorded_ns) < COLLAPSE_NS:
            return True
        self._recorded_at_ns[edge.key] = edge.at_boottime_ns
        return False

    def _unknown_key(self, key: str) -> CrewOutcome:
        if key in self._unknown or len(self._unknown) == UNKNOWN_KEYS_TOLD:
            return CrewOutcome(show=key)
        self._unknown.add(key)
        told = Alert(
            AlertCode.BUTTON_UNKNOWN, f"Key {key!r} was pressed but has no meaning in the configuration."
        )
        return CrewOutcome((told,), show=key, darken=(key,))


class HeldKeys:
    """Which keys are down, and since when. Used from one thread."""

    def __init__(self) -> None:
        self._since_ns: dict[str, int] = {}
        self._session: int | None = None

    def handle(self, edge: ButtonEdge) -> None:
        """Take the next edge of the panel."""
        if edge.device_session != self._session:
            self._session = edge.device_session
            self._since_ns.clear()
        if edge.pressed:
            self._since_ns[edge.key] = edge.at_boottime_ns
        else:
            self._since_ns.pop(edge.key, None)

    def slept(self, for_ns: int) -> None:
        """The computer slept for so long: a key that was down before counts its time awake."""
        for key in self._since_ns:
            self._since_ns[key] += for_ns

    def stuck(self, now_boottime_ns: int, after_s: float) -> tuple[str, ...]:
        """Keys that have been down for longer than `after_s`, sorted."""
        limit_ns = now_boottime_ns - round(after_s * 1e9)
        return tuple(sorted(key for key, since_ns in self._since_ns.items() if since_ns < limit_ns))
