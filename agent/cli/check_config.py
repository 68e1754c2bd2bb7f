"""mdt check-config: is this configuration good, with the vehicle files it names?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO

from agent.app.devices import load
from agent.cli.exit_code import ExitCode
from agent.config import Broker, CanDevice, Config, ConfigError


def load_all(path: Path) -> tuple[Config, list[str]]:
    """Load a configuration and check the vehicle files it names.

    Returns the configuration and the problems of its vehicle files. Raises ConfigError when the file is bad.
    """
    config = load(path)
    problems: list[str] = []
    for bus in config.devices:
        if not isinstance(bus, CanDevice):
            continue
        from agent.sources.can.decoder_compiler import compile_decoder
        from agent.sources.can.vehicle_file import load_vehicle_file

        try:
            compile_decoder(load_vehicle_file(bus.vehicle), bus.vehicle)
        except ConfigError as error:
            problems += error.problems
    return config, problems


def _unreadable(broker: Broker) -> list[str]:
    """Files and variables that the broker's table names and that are not there."""
    problems = []
    if broker.password is not None:
        try:
            broker.password.read()
        except OSError as error:
            problems.append(f"password: {broker.password.file}: {error.strerror}")
        except KeyError:
            problems.append(f"password: the environment has no {broker.password.environment}")
    for key in ("ca_file", "certificate_file", "key_file"):
        file = None if broker.tls is None else getattr(broker.tls, key)
        if file is not None and not os.access(file, os.R_OK):
            problems.append(f"tls.{key}: {file}: can not be read")
    return problems


def check_config(path: Path, out: TextIO, err: TextIO) -> int:
    """Print what is wrong, everything at once. Returns the exit code."""
    try:
        config, problems = load_all(path)
    except ConfigError as error:
        problems = error.problems
    for problem in problems:
        print(problem, file=err)
    if problems:
        return ExitCode.BAD_CONFIG
    sources = ", ".join(f"{device.name} ({device.kind})" for device in config.devices) or "nothing"
    brokers = ", ".join(f"{broker.host}:{broker.port}" for broker in config.uplink.brokers)
    for index, broker in enumerate(config.uplink.brokers):
        # No reason to refuse the file: secrets are read at each connection, and may be put there later.
        for missing in _unreadable(broker):
            print(f"{path}: warning: uplink.brokers[{index}].{missing}", file=err)
    print(f"{path}: good", file=out)
    print(f"{config.unit.agency}/{config.unit.unit} reads {sources} and publishes to {brokers}", file=out)
    return ExitCode.OK
