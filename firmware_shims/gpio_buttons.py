"""The crew's buttons and lamps on lines of a GPIO chip, through the kernel's character device and libgpiod.

The kernel debounces, stamps and queues the edges. Its queue holds 16 edges a line unless asked for more and
then drops the oldest, seen only as a gap in the line's own sequence; fast edges may even merge without one.
The level of each line is therefore read again once a second and after each batch: what a line *is* is never
guessed, and a line that loses edges is told as one that chatters.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from fnmatch import fnmatchcase
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from agent.config import ButtonDevice, DevicePath
from agent.hal.buttons import SYSTEM_LAMP, ButtonEdge, Lamp
from agent.hal.clock import Clock
from agent.hal.errors import DeviceLostError, DeviceNotFoundError
from firmware_shims.plain_lamps import PlainLamps

if TYPE_CHECKING:
    import gpiod

CONSUMER = "mdt"
EVENTS_PER_LINE = 64
"""Places in the kernel's queue: half a second of a contact that chatters every 8 ms."""
LOOK_EVERY_S = 1.0
ROUNDS = 8
"""Bound of one visit to the queue: a line that chatters must not hold the loop."""
Offset = Annotated[int, Field(strict=True, ge=0, le=1023)]
"""Of a line on its chip."""


class ButtonGpio(ButtonDevice):
    """Buttons, and lamps if any, on lines of a GPIO chip."""

    kind: Literal["button_gpio"] = "button_gpio"
    chip: DevicePath = "/dev/gpiochip0"
    """The chip's device."""
    chip_label: str | None = Field(None, min_length=1, max_length=32)
    """The chip's label, as `gpiodetect` shows it; `chip`, whose number differs between models, is unused.
    With a star it fits several models: "pinctrl-*" is the header of every Pi."""
    lines: dict[str, Offset] = Field(default_factory=dict)
    """Key name to line offset."""
    lamp_lines: dict[str, Offset] = Field(default_factory=dict)
    """Key name to the line of its lamp: dark = off, blinking = not stored, lit, two blinks and a pause =
    refused. The name `system` is the lamp of the whole."""
    buzzer_line: Offset | None = None
    """The line of a buzzer; what it sounds is told by `[buzzer]`."""
    active_low: bool = True
    """Whether a pressed button pulls its line down."""
    bias: Literal["pull_up", "pull_down", "disabled", "as_is"] = "pull_up"
    """The chip's own resistor on the lines."""
    debounce_ms: int = Field(20, ge=0, le=500)
    """How long a contact must rest before its edge counts."""

    def files(self) -> tuple[str, ...]:
        """The chip, where it is known before anybody looked for its label."""
        return (self.chip,) if self.chip_label is None else ()

    def takes(self) -> tuple[str, ...]:
        """The lines."""
        return tuple(f"{self.chip_label or self.chip} line {offset}" for offset in sorted(self._offsets()))

    def keys(self) -> tuple[str, ...]:
        """The keys that have a line."""
        return tuple(self.lines)

    def wiring(self, key: str) -> str:
        """The line of a key."""
        return f"line {self.lines[key]}" if key in self.lines else ""

    def has_lamp(self, key: str) -> bool:
        """Whether it has a line for it."""
        return key in self.lamp_lines

    def _offsets(self) -> list[int]:
        buzzer = [] if self.buzzer_line is None else [self.buzzer_line]
        return [*self.lines.values(), *self.lamp_lines.values(), *buzzer]

    @model_validator(mode="after")
    def _one_purpose_a_line(self) -> ButtonGpio:
        offsets = self._offsets()
        if not self.lines and self.buzzer_line is None:
            raise ValueError("no lines: give `lines`, `buzzer_line`, or both")
        if len(set(offsets)) != len(offsets):
            raise ValueError("a line offset is used twice")
        if strangers := set(self.lamp_lines) - set(self.lines) - {SYSTEM_LAMP}:
            raise ValueError(f"lamp_lines without a button: {', '.join(sorted(strangers))}")
        return self


class GpioButtons:
    """Implements `ButtonPanel`. GPIO lines keep no edges: an acknowledgement is no news to them.

    A key that is down when the chip is first opened is no press: nobody knows when it was pressed. Every
    later change is reported, as an edge if the kernel saw one, else as inferred.

    Args:
        settings: which lines, and how they are wired.
        clock: for boot-time stamps.
    """

    def __init__(self, settings: ButtonGpio, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._keys = {offset: key for key, offset in settings.lines.items()}
        self._request: gpiod.LineRequest | None = None
        self._down: dict[int, bool] = {}
        self._line_seqno: dict[int, int] = {}
        self._edges: deque[ButtonEdge] = deque()
        self._lamps = PlainLamps(self.name, settings.lamp_lines, self._light)
        self._sounding: asyncio.Task[None] | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._lost: dict[str, int] = {}

    @property
    def name(self) -> str:
        """The chip as configured, and which of its lines: another panel may be on the same chip."""
        chip = self._settings.chip_label or self._settings.chip
        return f"{chip} lines {' '.join(map(str, self._keys or [self._settings.buzzer_line]))}"

    @property
    def lost_edges(self) -> int:
        """Edges so far that the kernel dropped before they could be read."""
        return sum(self._lost.values())

    def noise(self) -> Mapping[str, int]:
        """How many edges of each key the kernel dropped so far."""
        return self._lost

    async def open(self) -> None:
        """Request the lines. Raises DeviceNotFoundError: no chip, no permission, or a line in use."""
        if self._request is not None:
            return
        try:
            self._request = request = self._request_lines()
            self._line_seqno.clear()
            self._down = self._down or self._levels(request)
            self._lamps.begin()
        except (OSError, ValueError) as error:
            await self.close()
            raise DeviceNotFoundError(self.name, plain(error)) from error

    async def read(self) -> Sequence[ButtonEdge]:
        """Wait for edges. Safe to cancel. Raises DeviceLostError when the chip is gone."""
        while not self._edges:
            request = self._opened()
            await self._readable(request)
            try:
                self._drain(self._opened())
            except OSError as error:
                raise DeviceLostError(self.name, plain(error)) from error
        edges = tuple(self._edges)
        self._edges.clear()
        return edges

    async def show(self, key: str, lamp: Lamp) -> None:
        """Light the lamp of `key`. Raises DeviceLostError."""
        try:
            self._lamps.show(key, lamp, now=self._request is not None)
        except OSError as error:
            raise DeviceLostError(self.name, plain(error)) from error

    async def sound(self, pattern_ms: Sequence[int]) -> None:
        """Sound the buzzer, if there is one; a sound that is not over gives way."""
        if self._settings.buzzer_line is not None and self._request is not None:
            await self._hush()
            self._sounding = asyncio.create_task(self._sound(tuple(pattern_ms)), name=f"buzzer {self.name}")

    async def acknowledge(self, edge: ButtonEdge) -> None:
        """Nothing to do: lines keep nothing."""

    async def close(self) -> None:
        """Release the lines, lamps dark. Idempotent, never raises."""
        request, self._request = self._request, None
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(DeviceLostError(self.name, "closed"))
        await self._hush()
        await self._lamps.end()
        if request is not None:
            asyncio.get_running_loop().remove_reader(request.fd)
            request.release()

    def _request_lines(self) -> gpiod.LineRequest:
        import gpiod  # lazily: only a configuration with GPIO buttons pays for it
        from gpiod.line import Bias, Clock, Direction, Edge

        bias = {
            "pull_up": Bias.PULL_UP,
            "pull_down": Bias.PULL_DOWN,
            "disabled": Bias.DISABLED,
            "as_is": Bias.AS_IS,
        }[self._settings.bias]
        button = gpiod.LineSettings(
            direction=Direction.INPUT,
            edge_detection=Edge.BOTH,
            bias=bias,
            active_low=self._settings.active_low,
            debounce_period=timedelta(milliseconds=self._settings.debounce_ms),
            event_clock=Clock.MONOTONIC,
        )
        lines: dict[Iterable[int | str] | int | str, gpiod.LineSettings | None] = {}
        if self._keys:
            lines[tuple(self._keys)] = button
        outputs = set(self._settings.lamp_lines.values())
        if self._settings.buzzer_line is not None:
            outputs.add(self._settings.buzzer_line)
        if outputs:
            lines[tuple(sorted(outputs))] = gpiod.LineSettings(direction=Direction.OUTPUT)  # dark and silent
        label = self._settings.chip_label
        return gpiod.request_lines(
            self._settings.chip if label is None else labelled(label),
            consumer=CONSUMER,
            config=lines,
            event_buffer_size=EVENTS_PER_LINE * max(1, len(self._keys)),
        )

    async def _readable(self, request: gpiod.LineRequest) -> None:
        """Wait until there are events, or it is time to look at the levels."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(request.fd, _wake, ready)
        self._waiting = ready
        try:
            # A chip that is removed wakes nobody on older kernels: looking at the levels finds out.
            await asyncio.wait({ready}, timeout=LOOK_EVERY_S)
            if ready.done():
                ready.result()
        finally:
            self._waiting = None
            if self._request is request:
                loop.remove_reader(request.fd)
            ready.cancel()

    def _drain(self, request: gpiod.LineRequest) -> None:
        # The two clocks differ by the time spent suspended, which does not change while we look.
        ahead_ns = self._clock.boottime_ns() - time.monotonic_ns()
        for _ in range(ROUNDS):
            # Levels first: an edge that comes after them is found in the queue, and they are read once more.
            down = self._levels(request)
            if not request.wait_edge_events(0):
                self._compare(down)
                return
            for event in request.read_edge_events():
                pressed = event.event_type is event.Type.RISING_EDGE
                self._take(event.line_offset, pressed, event.line_seqno, event.timestamp_ns + ahead_ns)

    def _take(self, offset: int, pressed: bool, line_seqno: int, at_boottime_ns: int) -> None:
        lost = line_seqno - self._line_seqno.get(offset, 0) - 1
        self._line_seqno[offset] = line_seqno
        if lost > 0:
            key = self._keys[offset]
            self._lost[key] = self._lost.get(key, 0) + lost
        if self._down[offset] == pressed:
            if lost <= 0:
                return  # seen as a level already
            # Down twice in a row: it must have gone up in between, among the edges that were dropped.
            self._change(offset, not pressed, at_boottime_ns, inferred=True)
        self._change(offset, pressed, at_boottime_ns, inferred=False)

    def _levels(self, request: gpiod.LineRequest) -> dict[int, bool]:
        from gpiod.line import Value

        if not self._keys:
            return {}
        values = request.get_values(list(self._keys))
        return {offset: value is Value.ACTIVE for offset, value in zip(self._keys, values, strict=True)}

    def _compare(self, down: dict[int, bool]) -> None:
        """Report levels that no edge has told of."""
        now_ns = self._clock.boottime_ns()
        for offset, pressed in down.items():
            if self._down[offset] != pressed:
                self._change(offset, pressed, now_ns, inferred=True)

    def _change(self, offset: int, pressed: bool, at_boottime_ns: int, *, inferred: bool) -> None:
        self._down[offset] = pressed
        self._edges.append(ButtonEdge(self._keys[offset], pressed, None, at_boottime_ns, inferred=inferred))

    def _light(self, lit: Mapping[str, bool]) -> None:
        self._set({self._settings.lamp_lines[key]: on for key, on in lit.items()})

    def _set(self, on: Mapping[int, bool]) -> None:
        from gpiod.line import Value

        values: dict[int | str, Value] = {
            offset: Value.ACTIVE if active else Value.INACTIVE for offset, active in on.items()
        }
        self._opened().set_values(values)

    async def _sound(self, pattern_ms: Sequence[int]) -> None:
        line = self._settings.buzzer_line
        assert line is not None
        try:
            for duration_ms, on in zip(pattern_ms, cycle((True, False)), strict=False):
                self._set({line: on})
                await asyncio.sleep(duration_ms / 1000)
        except (OSError, DeviceLostError):
            return  # the chip is gone: `read` says so
        finally:
            with suppress(OSError, DeviceLostError):
                self._set({line: False})

    async def _hush(self) -> None:
        sounding, self._sounding = self._sounding, None
        if sounding is not None:
            sounding.cancel()
            await asyncio.wait({sounding})

    def _opened(self) -> gpiod.LineRequest:
        if self._request is None:
            raise DeviceLostError(self.name, "not open")
        return self._request


def gpio_chips(folder: Path = Path("/dev")) -> tuple[list[tuple[str, str, int]], OSError | None]:
    """(Device, label, number of lines) of each GPIO chip that may be opened, and why another may not."""
    import gpiod

    refused: OSError | None = None
    found: list[tuple[str, str, int]] = []
    for path in sorted(folder.glob("gpiochip*")):
        if path.is_symlink():
            continue  # another name of one that is looked at anyway
        try:
            with gpiod.Chip(str(path)) as chip:
                info = chip.get_info()
                found.append((str(path), info.label, info.num_lines))
        except OSError as error:
            refused = error  # of another user, or going away right now: the next may be the one
    return found, refused


def labelled(label: str, folder: Path = Path("/dev")) -> str:
    """The device of the one GPIO chip whose label fits. Raises OSError: none, several, or no permission."""
    chips, refused = gpio_chips(folder)
    found = {path: name for path, name, _ in chips if fnmatchcase(name, label)}
    if len(found) > 1:
        several = ", ".join(f"{path} ({name})" for path, name in found.items())
        raise FileNotFoundError(errno.ENOENT, f"{len(found)} GPIO chips fit {label!r}: {several}")
    if found:
        return next(iter(found))
    if refused is not None:
        raise refused
    raise FileNotFoundError(errno.ENOENT, f"no GPIO chip is labelled {label!r}")


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def plain(error: Exception) -> str:
    """What libgpiod met, in a person's words."""
    if isinstance(error, OSError) and error.errno == errno.ENODEV:
        return "the chip was removed"
    if isinstance(error, OSError) and error.errno == errno.EBUSY:
        return "a line is in use by another program"
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
