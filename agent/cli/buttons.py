"""mdt buttons: for the installer, which key arrives as what, live, and each lamp in turn.

Beside a running agent it looks at what the agent heard, and touches no device: the lamps then tell the crew
the truth. Without one it opens the buttons itself.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.cli.exit_code import ExitCode
from agent.config import ButtonDevice, Config, ConfigError
from agent.domain.buzzer import Sound
from agent.hal.buttons import ButtonEdge, ButtonPanel, Lamp
from agent.hal.clock import Clock
from agent.hal.errors import HardwareError
from agent.supervision.daemon_answer import DaemonAwayError, ask

LOOK_EVERY_S = 0.2
SHOW_S = 1.5
"""How long each lamp is shown."""
AGAIN_S = 1.0
KEPT_BEFORE_NS = 1_000_000_000
"""A press that a box tells of so long after it was made by the crew before, and not by the installer."""
_LAMPS = (
    (Lamp.NOT_STORED, "blinks: pressed, not on the disk"),
    (Lamp.STORED, "amber: stored"),
    (Lamp.DELIVERED, "white: the broker has it"),
    (Lamp.RECEIVED, "green: dispatch has it"),
    (Lamp.REFUSED, "red: dispatch refused it"),
    (Lamp.OFF, "dark"),
)


class CrewsPressesError(Exception):
    """A box still keeps presses of the crew; they are the agent's."""


def buttons(
    config_path: Path,
    socket_path: Path | None,
    *,
    lamps: bool,
    list_devices: bool,
    input_device: Path | None,
    for_s: float | None,
) -> int:
    """Show keys until interrupted, or for a time. Returns the exit code.

    Args:
        config_path: the vehicle's configuration.
        socket_path: the daemon's socket instead of the configuration's.
        lamps: first light each lamp in turn, and sound each sound.
        list_devices: show the input devices and GPIO chips that there are, and nothing else.
        input_device: an input device that is not configured yet.
        for_s: end after so long.
    """
    if list_devices:
        for line in _what_there_is():
            print(line)
        return ExitCode.OK
    try:
        config = _loaded(config_path, input_device)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return ExitCode.BAD_CONFIG
    devices = [one for one in config.devices if isinstance(one, ButtonDevice)] if config else []
    meanings = config.buttons.keys if config else {}
    if input_device is None:
        if not devices:
            print(f"{config_path}: no buttons are configured; `mdt buttons --list`", file=sys.stderr)
            return ExitCode.BAD_CONFIG
        assert config is not None
        socket = socket_path or config.status_socket
        try:
            answer = ask(socket, "buttons")
        except DaemonAwayError:
            pass  # then the buttons are ours, unless somebody else has them: opening them tells
        else:
            return _beside(answer, socket, devices, meanings, lamps=lamps, for_s=for_s)
    else:
        devices = [_unconfigured(input_device)]
    return asyncio.run(_alone(config, devices, meanings, lamps=lamps, for_s=for_s))


def _loaded(config_path: Path, input_device: Path | None) -> Config | None:
    from agent.app.devices import load

    if input_device is not None and not config_path.exists():
        return None
    return load(config_path)


def _unconfigured(path: Path) -> ButtonDevice:
    from firmware_shims.evdev_buttons import ButtonEvdev

    # Without codes, which a configuration must have: they are what is looked for.
    return ButtonEvdev.model_construct(
        kind="button_evdev", name="input", device=str(path), codes={}, lamp_leds={}, debounce_ms=20
    )


# ---------------------------------------------------------------------- beside the agent


def _beside(
    answer: dict[str, Any],
    socket: Path,
    devices: Sequence[ButtonDevice],
    meanings: dict[str, str],
    *,
    lamps: bool,
    for_s: float | None,
) -> int:
    """Show what the running agent hears."""
    if lamps:
        print(
            "the agent runs, and its lamps tell the crew the truth: stop it first (systemctl stop mdt)",
            file=sys.stderr,
        )
        return ExitCode.UNAVAILABLE
    wiring = {device.name: device for device in devices}
    waited_s, pause = 0.0, threading.Event()
    seen = _newest(answer)
    print("the agent runs: what is pressed now is told to dispatch. Ctrl-C ends.")
    for line in _first_words(answer):
        print(line, flush=True)
    while for_s is None or waited_s < for_s:
        pause.wait(LOOK_EVERY_S)
        waited_s += LOOK_EVERY_S
        try:
            answer = ask(socket, "buttons")
        except DaemonAwayError as error:
            print(f"the agent is gone: {error}", file=sys.stderr)
            return ExitCode.UNAVAILABLE
        for name, panel in answer.items():
            for edge in panel["edges"]:
                if edge["number"] > seen.get(name, 0):
                    print(_line(wiring.get(name), name, edge["key"], edge["pressed"], meanings), flush=True)
        seen = _newest(answer)
    return ExitCode.OK


def _newest(answer: dict[str, Any]) -> dict[str, int]:
    return {name: max((one["number"] for one in panel["edges"]), default=0) for name, panel in answer.items()}


def _first_words(answer: dict[str, Any]) -> Iterator[str]:
    for name, panel in answer.items():
        ill = [f"stuck: {', '.join(panel['stuck'])}"] * bool(panel["stuck"])
        ill += [f"chattering: {', '.join(panel['chattering'])}"] * bool(panel["chattering"])
        yield f"{name}: {panel['device']}" + (f" ({'; '.join(ill)})" if ill else "")


# ---------------------------------------------------------------------- alone


async def _alone(
    config: Config | None,
    devices: Sequence[ButtonDevice],
    meanings: dict[str, str],
    *,
    lamps: bool,
    for_s: float | None,
) -> int:
    """Open the buttons, and show what they do until told to stop."""
    from firmware_shims.system_clock import SystemClock

    stop, loop, clock = asyncio.Event(), asyncio.get_running_loop(), SystemClock()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if for_s is not None:
        loop.call_later(for_s, stop.set)
    patterns = {} if config is None or config.buzzer is None else config.buzzer.patterns()
    keys = sorted(meanings)
    watching = [
        asyncio.create_task(_watch(device, clock, meanings, lamps=keys if lamps else [], sounds=patterns))
        for device in devices
    ]
    stopping = asyncio.create_task(stop.wait())
    print("the agent does not run: nothing that is pressed now is told to anybody. Ctrl-C ends.", flush=True)
    await asyncio.wait({*watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in (*watching, stopping):
        task.cancel()
    results = await asyncio.gather(*watching, return_exceptions=True)
    for result in results:
        if isinstance(result, CrewsPressesError):
            print(result, file=sys.stderr)
            return ExitCode.UNAVAILABLE
        if isinstance(result, Exception):
            raise result
    return ExitCode.OK


async def _watch(
    device: ButtonDevice,
    clock: Clock,
    meanings: dict[str, str],
    *,
    lamps: Sequence[str],
    sounds: dict[Sound, tuple[int, ...]],
) -> None:
    """Read a device for ever, also when it comes and goes. Raises CrewsPressesError."""
    from agent.app.devices import KINDS

    panel: Any = KINDS[device.kind].feed(device, clock)
    if hasattr(panel, "strangers"):
        panel.strangers = True
    why = ""
    while True:
        opened_ns = clock.boottime_ns()
        try:
            await panel.open()
            print(f"{device.name}: {panel.name} is there", flush=True)
            showing = asyncio.create_task(_show_all(device, panel, lamps, sounds))
            try:
                await _tell(device, panel, meanings, opened_ns)
            finally:
                showing.cancel()
                await asyncio.gather(showing, return_exceptions=True)
        except HardwareError as error:
            if error.why != why:
                print(f"{device.name}: {error}", flush=True)
            why = error.why
        finally:
            await panel.close()
        lamps = []
        await asyncio.sleep(AGAIN_S)


async def _tell(device: ButtonDevice, panel: ButtonPanel, meanings: dict[str, str], opened_ns: int) -> None:
    while True:
        for edge in await panel.read():
            _refuse_the_crews(device, edge, opened_ns)
            print(_line(device, device.name, edge.key, edge.pressed, meanings), flush=True)
            # Or the agent would tell dispatch of the installer's presses once it runs.
            await panel.acknowledge(edge)


def _refuse_the_crews(device: ButtonDevice, edge: ButtonEdge, opened_ns: int) -> None:
    if edge.device_session is not None and edge.at_boottime_ns < opened_ns - KEPT_BEFORE_NS:
        raise CrewsPressesError(
            f"{device.name}: the box keeps presses of the crew ({edge.key}) that are not stored yet: start "
            "the agent, and try again once its lamps say that they are"
        )


async def _show_all(
    device: ButtonDevice, panel: ButtonPanel, keys: Sequence[str], sounds: dict[Sound, tuple[int, ...]]
) -> None:
    """Light each lamp in turn, then sound each sound; the device's loss is told by who reads it."""
    with suppress(HardwareError):
        for key in keys:
            if not device.has_lamp(key):
                continue
            for lamp, words in _LAMPS:
                print(f"{device.name}: lamp of {key} {words}", flush=True)
                await panel.show(key, lamp)
                await asyncio.sleep(SHOW_S)
        for sound, pattern in sounds.items() if keys else ():
            print(f"{device.name}: sound {sound}", flush=True)
            await panel.sound(pattern)
            await asyncio.sleep(SHOW_S + sum(pattern) / 1000)


def _line(device: ButtonDevice | None, name: str, key: str, pressed: bool, meanings: dict[str, str]) -> str:
    """One edge for a person: device, where the key is, its name, what it did, what it means."""
    where = "" if device is None else device.wiring(key)
    meaning = meanings.get(key)
    says = "has no meaning in [buttons.keys]" if meaning is None else f"means {meaning}"
    return f"{name}  {where or '-':<22} {key:<18} {'down' if pressed else 'up':<5} {says}"


# ---------------------------------------------------------------------- what there is


def _what_there_is() -> Iterator[str]:
    """The input devices and GPIO chips of this computer, for whoever writes the configuration."""
    from firmware_shims.input_device import close_all, input_devices

    devices, refused = input_devices()
    by_file: dict[Path, list[str]] = {}
    for folder in ("by-id", "by-path"):
        for link in sorted(Path("/dev/input", folder).glob("*")):
            by_file.setdefault(link.resolve(), []).append(str(link))
    yield f"input devices: {len(devices)}" + (f" (of others: {refused.strerror})" if refused else "")
    for device in devices:
        has = f"{len(device.keys)} keys, {len(device.leds)} LEDs"
        yield f"  {device.path}  {device.name!r} at {device.phys or '-'}: {has}"
        yield from (f"    device = {name}" for name in by_file.get(device.path, ()))
    close_all(devices)
    yield from _chips()


def _chips() -> Iterator[str]:
    try:
        from firmware_shims.gpio_buttons import gpio_chips

        chips, refused = gpio_chips()
    except ImportError:
        yield "GPIO chips: gpiod is not installed"
        return
    yield f"GPIO chips: {len(chips)}" + (f" (of others: {refused.strerror})" if refused else "")
    for chip, label, lines in chips:
        yield f"  {chip}  chip_label = {label!r}, {lines} lines"
