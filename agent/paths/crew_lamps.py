"""The lamp of each key: what is true of its newest press, told to every panel and to the crew's page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from agent.domain.crew import EMERGENCY
from agent.hal.buttons import SYSTEM_LAMP, Lamp
from agent.outbox.deposit import Deposit, Fate
from agent.paths.panel_voice import Voice
from agent.wire.orders import Answer

SYSTEM_AGAIN_TICKS: Final = 3


class CrewLamps:
    """Decides what each lamp shows, and tells the panels that are attached. Used from the event loop.

    Args:
        keys: key name to unit status token, or to "emergency".
        receipts: whether delivered means that dispatch's receipt came, and not the broker's PUBACK.
        silent: whether the lamps of emergency keys stay dark.
        on_change: called when the crew's page has something new to show.
    """

    def __init__(
        self, keys: Mapping[str, str], *, receipts: bool, silent: bool, on_change: Callable[[], None]
    ) -> None:
        self._keys = keys
        self._receipts = receipts
        self._silent = silent
        self._on_change = on_change
        self._voices: list[Voice] = []
        self._lamps: dict[str, Lamp] = {}
        self._shown: dict[str, Deposit] = {}
        """The newest press of each key that is lit: its lamp says what is true of that."""
        self._refused: dict[str, Answer] = {}
        """Dispatch's refusal of the newest press of a key."""
        self._system_told = 0
        self._cancelling: tuple[str, ...] = ()
        """Emergency keys whose lamps say that the hold counts: let go now, and it is cancelled."""

    def tell_system(self, lamp: Lamp) -> None:
        """The lamp of the whole, once a second; it is said again, so that a box can tell who is dead."""
        self._system_told = self._system_told + 1 if lamp is self._lamps.get(SYSTEM_LAMP) else 0
        self._lamps[SYSTEM_LAMP] = lamp
        if self._system_told % SYSTEM_AGAIN_TICKS == 0:
            for voice in self._voices:
                voice.show(SYSTEM_LAMP, lamp)

    def attach(self, voice: Voice) -> None:
        """Tell `voice` what its lamps are to show, now and from now on."""
        self._voices.append(voice)
        for key, lamp in self._lamps.items():
            voice.show(key, lamp)

    def follow(self, key: str, press: Deposit, *, again: bool = False) -> None:
        """From now on the key's lamp tells of this press; `again` when it did before, and holds again."""
        self._shown[key] = press
        if not again:
            self._refused.pop(key, None)
        self._light(key)

    def press_of(self, key: str) -> Deposit | None:
        """The press that the key's lamp tells of."""
        return self._shown.get(key)

    def on_fate(self, press: Deposit) -> None:
        """Something else is true of a press than before."""
        for key, shown in self._shown.items():
            if shown is press:
                self._light(key)

    def darken(self, key: str, press: Deposit | None) -> None:
        """What the key's lamp told is over, unless it was pressed again after `press`."""
        if press is not None and self._shown.get(key) is press:
            del self._shown[key]
            self._show(key, Lamp.OFF)

    def forget(self, key: str) -> None:
        """The key's newest press was taken back."""
        self._shown.pop(key, None)
        self._refused.pop(key, None)
        self._show(key, Lamp.OFF)

    def answered(self, order: Answer) -> None:
        """Dispatch took or refused the press with that number."""
        for key, shown in self._shown.items():
            if shown.seq == order.seq:
                if order.accepted:
                    self._refused.pop(key, None)
                else:
                    self._refused[key] = order
                self._light(key)

    def refusal_of(self, key: str) -> Answer | None:
        """Dispatch's refusal of the key's newest press."""
        return self._refused.get(key)

    def tell_that_holds_count(self, keys: Iterable[str]) -> None:
        """The lamp flickers while letting the emergency key go would cancel, also where it is dark else."""
        before, self._cancelling = self._cancelling, tuple(keys)
        for key in {*before, *self._cancelling}:
            counts = key in self._cancelling
            if counts != (key in before):
                for voice in self._voices:
                    voice.show(key, Lamp.NOT_STORED if counts else self._lamps.get(key, Lamp.OFF))

    def of(self, key: str) -> Lamp:
        """The key's lamp; of two keys with one meaning, the one that was pressed speaks for both."""
        lamp, meaning = self._lamps.get(key, Lamp.OFF), self._keys.get(key)
        if lamp is not Lamp.OFF or meaning is None:
            return lamp
        others = (self._lamps.get(other, Lamp.OFF) for other, token in self._keys.items() if token == meaning)
        return next((other for other in others if other is not Lamp.OFF), Lamp.OFF)

    def snapshot(self) -> dict[str, str]:
        """Key to lamp, for `mdt status`."""
        return {key: str(lamp) for key, lamp in self._lamps.items()}

    def _light(self, key: str) -> None:
        """Show what is true of the newest press of a key, which is stored after all earlier ones."""
        if self._silent and self._keys.get(key) == EMERGENCY:
            return
        lamp = {
            Fate.NOT_STORED: Lamp.NOT_STORED,
            Fate.STORED: Lamp.STORED,
            Fate.DELIVERED: Lamp.RECEIVED if self._receipts else Lamp.DELIVERED,
        }[self._shown[key].fate]
        self._show(key, Lamp.REFUSED if key in self._refused else lamp)

    def _show(self, key: str, lamp: Lamp) -> None:
        if self._lamps.get(key, Lamp.OFF) is not lamp:
            self._lamps[key] = lamp
            self._on_change()
            for voice in self._voices:
                voice.show(key, lamp)
