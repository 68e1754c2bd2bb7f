"""`mdt-dispatch kit unit`: the conformance kit over a real broker."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TextIO

from agent.dispatch.intake import Message
from agent.dispatch.kit import KitUnit, read_have, report
from agent.dispatch.mqtt_source import MqttSource, SourceState
from agent.dispatch.settings import DispatchFile
from agent.wire.topics import ROOT, Topics

STEP_S = 2.5
"""Between two steps: time enough to ask for what is missing before the next one."""
_LOOK_S = 0.2


async def play(
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
    connected = asyncio.Event()

    def on_state(state: SourceState) -> None:
        if state.connected:
            connected.set()

    def on_message(message: Message) -> None:
        source.confirm(message)
        kit.hear(message.topic, message.payload)

    source = MqttSource(
        settings.broker,
        client_id=unit,
        session_s=0,
        agency=None,
        now_ms=lambda: now_ms,
        on_message=on_message,
        on_state=on_state,
        filters=(f"{ROOT}/{topics.agency}/{topics.unit}/command/+", topics.receipt),
    )
    kit = KitUnit(topics, lambda topic, payload, retain: source.send(topic, payload, retain=retain), now_ms)
    reading = asyncio.ensure_future(source.run())
    try:
        async with asyncio.timeout(wait_s):
            await connected.wait()
        for step in kit.steps():
            out.write(f"said: {step}\n")
            out.flush()
            await asyncio.sleep(STEP_S)
        if expect is not None:
            await asyncio.to_thread(expect.write_text, json.dumps(kit.expected, indent=1) + "\n")
        if have is None:
            out.write("now give the consumer's file with --have\n")
        judged = await _wait_for(have, kit, wait_s)
    except TimeoutError:
        out.write("no connection to the broker\n")
        return 1
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    if judged is None:
        return 0
    out.write(report(judged))
    return 1 if judged else 0


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
