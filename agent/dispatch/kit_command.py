"""`mdt-dispatch kit`: both halves of the conformance kit over a real broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TextIO

from agent.dispatch.intake import Message
from agent.dispatch.kit import NOT_TRIED, KitUnit, read_have, report
from agent.dispatch.kit import SENTENCES as UNIT_SENTENCES
from agent.dispatch.kit_dispatch import SENTENCES as DISPATCH_SENTENCES
from agent.dispatch.kit_dispatch import KitDispatch
from agent.dispatch.mqtt_source import MqttSource, SourceState
from agent.dispatch.settings import DispatchFile
from agent.wire.topics import ROOT, Topics, subscriptions

STEP_S = 2.5
"""Between two steps: time enough to ask for what is missing before the next one."""
_LOOK_S = 0.2
_DISPATCH_ID = "mdt-kit-dispatch"


async def play_unit(
    settings: DispatchFile,
    unit: str,
    have: Path | None,
    expect: Path | None,
    *,
    wait_s: float,
    now_ms: int,
    out: TextIO,
) -> int:
    """Play the unit, wait for what the consumer asks for, and judge the file that it wrote.

    Returns:
        0 when every sentence passed, or when there was no file to judge; 1 else.
    """
    topics = Topics(settings.agency or "kit", unit)
    filters = (f"{ROOT}/{topics.agency}/{topics.unit}/command/+", topics.receipt)
    try:
        async with _connected(
            settings, unit, filters, lambda message: kit.hear(message.topic, message.payload), wait_s
        ) as source:
            kit = KitUnit(
                topics, lambda topic, payload, retain: source.send(topic, payload, retain=retain), now_ms
            )
            for step in kit.steps():
                _say(out, f"said: {step}")
                await asyncio.sleep(STEP_S)
            if expect is not None:
                await asyncio.to_thread(expect.write_text, json.dumps(kit.expected, indent=1) + "\n")
            if have is None:
                _say(out, "now give the consumer's file with --have")
            judged = await _wait_for(have, kit, wait_s)
    except TimeoutError:
        _say(out, "no connection to the broker")
        return 1
    if judged is None:
        return 0
    out.write(report(judged, UNIT_SENTENCES))
    return 1 if judged else 0


async def play_dispatch(settings: DispatchFile, unit: str, *, wait_s: float, out: TextIO) -> int:
    """Play dispatch against a unit that is there, and judge it.

    Args:
        settings: broker and agency.
        unit: which.
        wait_s: how long each step may take.
        out: where to tell.

    Returns:
        0 when every sentence passed that could be tried; 1 else.
    """
    topics = Topics(settings.agency or "kit", unit)
    kit = KitDispatch(topics, lambda *said: source.publish(*said))  # noqa: PLW0108  # it is made below
    heard = asyncio.Event()

    def hear(message: Message) -> None:
        kit.hear(message.topic, message.payload, retained=message.retained)
        heard.set()

    try:
        async with _connected(
            settings,
            _DISPATCH_ID,
            subscriptions(topics.agency, topics.unit),
            hear,
            wait_s,
        ) as source:
            for step in kit.steps():
                _say(out, f"step: {step.name}")
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        while not step.seen():
                            heard.clear()
                            await heard.wait()
    except TimeoutError:
        _say(out, "no connection to the broker")
        return 1
    judged = kit.judge()
    out.write(report(judged, DISPATCH_SENTENCES))
    return 1 if any(not why.startswith(NOT_TRIED) for why in judged.values()) else 0


@asynccontextmanager
async def _connected(
    settings: DispatchFile,
    client_id: str,
    filters: tuple[str, ...],
    hear: Callable[[Message], None],
    wait_s: float,
) -> AsyncIterator[MqttSource]:
    """A connection that reads; what comes is heard and confirmed. Raises TimeoutError."""
    connected = asyncio.Event()

    def on_state(state: SourceState) -> None:
        if state.connected:
            connected.set()

    def on_message(message: Message) -> None:
        source.confirm(message)
        hear(message)

    source = MqttSource(
        (settings.broker,),
        client_id=client_id,
        session_s=0,
        now_ms=lambda: 0,
        on_message=on_message,
        on_state=on_state,
        filters=filters,
    )
    reading = asyncio.ensure_future(source.run())
    try:
        async with asyncio.timeout(wait_s):
            await connected.wait()
        yield source
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def _say(out: TextIO, text: str) -> None:
    out.write(f"{text}\n")
    out.flush()


async def _wait_for(have: Path | None, kit: KitUnit, wait_s: float) -> dict[str, str] | None:
    """Judge the file as often as it changes, until it is good or the time is up."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + wait_s
    judged: dict[str, str] | None = None
    while loop.time() < until_s:
        if have is None and kit.complete():
            return None
        text = None if have is None else await asyncio.to_thread(_read, have)
        if text is not None:
            try:
                judged = kit.judge(read_have(text))
            except ValueError:
                judged = {"malformed": f"{have} is no JSON"}
            if not judged:
                return judged
        await asyncio.sleep(_LOOK_S)
    return judged if have is None or judged is not None else {"hole": f"{have} was never written"}


def _read(file: Path) -> str | None:
    """What stands in a file; None while it is not there."""
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
