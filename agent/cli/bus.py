"""mdt bus: what is on a vehicle bus, live or in a log. For the technician who fits or repairs a vehicle."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from agent.cli.can_recording import read_frames
from agent.cli.exit_code import ExitCode
from agent.config import CanDevice, ConfigError, validate
from agent.hal.can import CanFrame
from agent.hal.errors import HardwareError
from agent.sources.can.bus_survey import BIT_RATES, BusSurvey, Identifier, in_order
from agent.sources.can.can_decoder import CanDecoder
from agent.sources.can.dbc_excerpt import Dbc, read_dbc
from agent.sources.can.decoder_compiler import compile_decoder
from agent.sources.can.vehicle_file import load_vehicle_file
from firmware_shims.can_log import CanLogError, LogCounts

TRY_S = 2.0
"""How long one bit rate is listened with. The slowest message of most vehicles comes once a second."""
_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a bus: both None without a vehicle file."""

    decoder: CanDecoder | None
    dbc: Dbc | None


def known_of(vehicle: Path | None, dbc: Path | None) -> Known:
    """What a vehicle file and its DBC, or a DBC alone, tell. Raises ConfigError."""
    if vehicle is None:
        try:
            return Known(None, None if dbc is None else read_dbc(dbc))
        except OSError as error:
            raise ConfigError([f"{dbc}: can not be read: {error.strerror}"]) from error
    file = load_vehicle_file(vehicle, dbc=dbc)
    return Known(compile_decoder(file, vehicle), None if file.dbc is None else read_dbc(file.dbc))


def bus_of_log(
    path: Path, vehicle: Path | None, dbc: Path | None, out: TextIO, err: TextIO, *, as_json: bool
) -> int:
    """Tell what is in a log, each of its buses for itself. Returns the exit code."""
    try:
        known = known_of(vehicle, dbc)
    except ConfigError as error:
        err.writelines(f"{problem}\n" for problem in error.problems)
        return ExitCode.BAD_CONFIG
    surveys: dict[str, BusSurvey] = {}
    met = LogCounts()
    try:
        for logged in read_frames(path, met):
            if logged.bus not in surveys:
                surveys[logged.bus] = BusSurvey(known.decoder, known.dbc)
            surveys[logged.bus].take(logged.frame)
    except (OSError, CanLogError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        why = f"{path}: can not be read: {error.strerror}" if isinstance(error, OSError) else str(error)
        err.write(f"{why}\n")
        return ExitCode.NO_INPUT
    remarks = [f"{number} {what}" for number, what in (
        (met.error_frames, "error frames of the controller"), (met.remote_frames, "remote frames"),
        (met.unreadable, "lines unreadable"),
    ) if number]  # fmt: skip
    if as_json:
        buses = {name: as_table(survey) for name, survey in surveys.items()}
        print(json.dumps({"buses": buses, "remarks": remarks}, indent=2), file=out)
    else:
        for name, survey in surveys.items():
            out.writelines(f"{line}\n" for line in page(name, survey))
        err.writelines(f"{remark}\n" for remark in remarks)
    return ExitCode.OK if surveys else ExitCode.NO_INPUT


def bus_live(
    devices: Sequence[CanDevice],
    vehicle: Path | None,
    for_s: float,
    out: TextIO,
    err: TextIO,
    *,
    as_json: bool,
    try_rates: bool,
) -> int:
    """Listen to buses for a while, one after the other, and tell what was there. Returns the exit code."""
    tables: dict[str, Any] = {}
    code = ExitCode.OK
    for device in devices:
        path = vehicle or device.vehicle
        try:
            known = known_of(path, None)
            survey, tried = asyncio.run(listen(device, known, for_s, try_rates=try_rates))
        except ConfigError as error:
            err.writelines(f"{problem}\n" for problem in error.problems)
            return ExitCode.BAD_CONFIG
        except HardwareError as error:
            err.write(f"{device.name}: {error}\n{_what_to_do(error)}\n")
            code = ExitCode.UNAVAILABLE
            continue
        if as_json:
            tables[device.name] = as_table(survey) | {"frames_at_bit_rate": tried}
            continue
        out.writelines(f"{line}\n" for line in page(device.name, survey))
        if tried:
            out.write(
                f"tried: {', '.join(f'{rate // 1000}k {count} frames' for rate, count in tried.items())}\n"
            )
        if not survey.frames:
            out.write(
                f"{device.name}: nothing was heard in {for_s:g} s: is the ignition on, the bit rate right?\n"
            )
    if as_json:
        print(json.dumps({"buses": tables, "remarks": []}, indent=2), file=out)
    return code


async def listen(
    device: CanDevice, known: Known, for_s: float, *, try_rates: bool
) -> tuple[BusSurvey, dict[int, int]]:
    """Survey a bus; with `try_rates` at each bit rate of an adapter, of which the fullest is kept."""
    if not try_rates or "bitrate" not in type(device).model_fields:
        survey = BusSurvey(known.decoder, known.dbc)
        async for frame in _frames(device, for_s):
            survey.take(frame)
        return survey, {}
    surveys: dict[int, BusSurvey] = {}
    for rate in BIT_RATES:
        try:
            at_rate = validate(
                type(device), device.model_dump(mode="json") | {"bitrate": rate}, Path("mdt bus")
            )
        except ConfigError:
            continue  # this adapter has no such rate
        surveys[rate] = BusSurvey(known.decoder, known.dbc)
        async for frame in _frames(at_rate, min(for_s, TRY_S)):
            surveys[rate].take(frame)
    best = max(surveys, key=lambda rate: surveys[rate].frames)
    return surveys[best], {rate: survey.frames for rate, survey in surveys.items()}


async def _frames(device: CanDevice, for_s: float) -> AsyncIterator[CanFrame]:
    """Every frame of a bus for a while. Raises HardwareError."""
    from agent.app.vehicle_platform import VehiclePlatform

    platform = VehiclePlatform()
    feed: Any = platform.feed(device, platform.clock())
    feed.listen_for(())
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(20):
            await feed.open()
        end = loop.time() + for_s
        while True:
            try:
                async with asyncio.timeout_at(end):
                    frames = await feed.read()
            except TimeoutError:
                return
            for frame in frames:
                yield frame
            if loop.time() >= end:
                return
    finally:
        await feed.close()


def as_table(survey: BusSurvey) -> dict[str, Any]:
    """The survey of a bus, JSON-able."""
    guess = survey.guess()
    return {
        "frames": survey.frames,
        "span_s": round(survey.span_s, 6),
        "load_bits_per_s": None if survey.bits_per_s is None else round(survey.bits_per_s),
        "bit_rate_guess": guess.bit_rate,
        "bit_rate_why": guess.why,
        "identifiers": [
            {
                "id": one.text,
                "extended": one.extended,
                "frames": one.frames,
                "rate_per_s": None if one.rate_per_s is None else round(one.rate_per_s, 3),
                "lengths": sorted(one.lengths),
                "changes": one.changes,
                "last": one.data.hex(),
                "what": survey.what_is(one),
            }
            for one in in_order(survey.identifiers.values())
        ],
        "identifiers_left_out": survey.left_out,
        "signals": dict(sorted(survey.signals.items())),
        "signals_never_heard": [signal.name for signal in survey.unheard()],
    }


def page(name: str, survey: BusSurvey) -> list[str]:
    """The survey of a bus for a person."""
    guess, load = survey.guess(), survey.bits_per_s
    head = f"{name or 'bus'}: {survey.frames} frames, {len(survey.identifiers)} identifiers"
    if load is not None:
        head += (
            f", {survey.span_s:.1f} s, {survey.frames / survey.span_s:.0f} frames/s, {load / 1000:.0f} kbit/s"
        )
    rate = "not known" if guess.bit_rate is None else f"{guess.bit_rate // 1000} kbit/s"
    lines = [head, f"bit rate: {rate} ({guess.why})"]
    if survey.identifiers:
        lines += ["", f"{'id':<9}{'frames':>9}{'a second':>10}{'bytes':>7}{'changes':>9}  what"]
        lines += [_row(one, survey.what_is(one)) for one in in_order(survey.identifiers.values())]
    if survey.left_out:
        lines.append(f"{survey.left_out} frames of further identifiers: a bus has no such number of them")
    unheard = survey.unheard()
    if survey.signals or unheard:
        known = len(survey.signals) + len(unheard)
        lines += ["", f"{len(survey.signals)} of {known} known signals appear"]
        lines += [f"  {name}  {_value(value)}" for name, value in sorted(survey.signals.items())]
        lines += [f"  never: {signal.name}" for signal in unheard]
    return [*lines, ""]


def _row(one: Identifier, what: str) -> str:
    rate = "-" if one.rate_per_s is None else f"{one.rate_per_s:.1f}"
    lengths = "/".join(map(str, sorted(one.lengths)))
    return f"{one.text:<9}{one.frames:>9}{rate:>10}{lengths:>7}{one.changes:>9}  {what}"[:_WIDTH].rstrip()


def _value(value: Any) -> str:
    return "no value" if value is None else str(value)


def _what_to_do(error: HardwareError) -> str:
    if "in use" in error.why:
        return "  the agent has it: `mdt status` shows what it hears; or stop it: sudo systemctl stop mdt"
    if "down" in error.why.lower():
        return "  bring the interface up: sudo systemctl restart systemd-networkd"
    return "  is it plugged in, and may this user open it (group dialout)?"


def run(args: Any) -> int:
    """The command with its arguments."""
    if args.log is not None:
        return bus_of_log(args.log, args.vehicle, args.dbc, sys.stdout, sys.stderr, as_json=args.json)
    from agent.app.devices import load

    try:
        config = load(args.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return ExitCode.BAD_CONFIG
    devices = [
        device
        for device in config.devices
        if isinstance(device, CanDevice) and args.device in (None, device.name)
    ]
    if not devices:
        print(
            f"{args.config}: no bus{'' if args.device is None else f' {args.device!r}'} in it",
            file=sys.stderr,
        )
        return ExitCode.BAD_CONFIG
    return bus_live(
        devices, args.vehicle, args.for_s, sys.stdout, sys.stderr, as_json=args.json, try_rates=args.try_rates
    )
