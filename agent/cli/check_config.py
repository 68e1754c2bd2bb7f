"""mdt check-config: everything that can be known to be wrong before the road."""

from __future__ import annotations

import errno
import glob
import os
import re
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from agent.app.devices import load, validate
from agent.app.patches import patches_of
from agent.cli.exit_code import ExitCode
from agent.config import (
    Broker,
    ButtonDevice,
    CanDevice,
    ConfigError,
    Device,
    DiagnosticDevice,
    SampleDevice,
    read_toml,
)
from agent.config.plain_words import did_you_mean
from agent.config.reading import line_of, written
from agent.config.toml_text import Place, lines_of

_NUMBERED = re.compile(r"/dev/tty(?:USB|ACM)\d+")
_SIGNAL = re.compile(r"signals\[(\d+)\]\.(\w+)")
_ARPHRD_CAN = 280
"""What the kernel calls the type of a CAN interface (linux/if_arp.h)."""


def check_config(path: Path, out: TextIO, err: TextIO) -> int:
    """Print what is wrong, everything at once, and what is only remarkable. Returns the exit code."""
    try:
        found = _Check(path)
    except ConfigError as error:
        err.writelines(f"{problem}\n" for problem in error.problems)
        return ExitCode.BAD_CONFIG
    err.writelines(f"{problem}\n" for problem in found.problems)
    err.writelines(f"{remark}\n" for remark in found.remarks)
    if found.problems:
        return ExitCode.BAD_CONFIG
    config = found.config
    sources = ", ".join(f"{device.name} ({device.kind})" for device in config.devices) or "nothing"
    brokers = ", ".join(f"{broker.host}:{broker.port}" for broker in config.uplink.brokers)
    print(f"{path}: good", file=out)
    print(f"{config.unit.agency}/{config.unit.unit} reads {sources} and publishes to {brokers}", file=out)
    for key, value in found.changed.items():
        print(f"changed from afar, by what lies beside the store: {key} = {value}", file=out)
    return ExitCode.OK


class _Check:
    """A configuration that can be read, and what is found when the computer around it is looked at.

    Attributes:
        config: as read. Creating raises ConfigError when it can not be.
        problems: what can not work.
        changed: what was changed from afar and lies over the file: dotted key to value.
        remarks: what may be meant so: devices that are not plugged in, secrets that come later.
    """

    def __init__(self, path: Path) -> None:
        self.config = load(path)
        self.problems: list[str] = []
        self.remarks: list[str] = []
        self._path = path
        self._lines = lines_of(read_toml(path))
        self._owner_of: dict[str, str] = {}
        self._giver_of: dict[str, str] = {}
        for index, device in enumerate(self.config.devices):
            self._device(("device", index), device)
        for index, broker in enumerate(self.config.uplink.brokers):
            self._broker(("uplink", "brokers", index), broker)
        self._without_effect()
        self._folders()
        patches = patches_of(path, self.config, validate)
        patches.look()
        self.changed: dict[str, str] = patches.snapshot()["changed"]
        if patches.left_out:
            self.remarks.append(f"{path}: warning: a change from afar is not in use: {patches.left_out}")

    def _say(self, place: Place, what: str, *, is_remark: bool) -> None:
        line = line_of(place, self._lines)
        at = f"{self._path}" if line is None else f"{self._path}:{line}"
        if is_remark:
            self.remarks.append(f"{at}: warning: {written(place)}: {what}")
        else:
            self.problems.append(f"{at}: {written(place)}: {what}")

    def _wrong(self, place: Place, what: str) -> None:
        self._say(place, what, is_remark=False)

    def _remark(self, place: Place, what: str) -> None:
        self._say(place, what, is_remark=True)

    # ------------------------------------------------------------------ devices

    def _device(self, place: Place, device: Device) -> None:
        for file in device.files():
            self._device_file(place, device, file)
        interface = getattr(device, "channel", "") if device.kind in ("can_socketcan", "obd_isotp") else ""
        if interface:
            self._interface((*place, "channel"), interface)
        if isinstance(device, CanDevice | DiagnosticDevice):
            for name in self._vehicle_signals(device):
                self._signal((*place, "vehicle"), device, name)
        if isinstance(device, SampleDevice):
            for name in device.signals():
                self._signal((*place, "signal"), device, name)
                self._sample_name((*place, "signal"), name)

    def _device_file(self, place: Place, device: Device, file: str) -> None:
        if _NUMBERED.fullmatch(file):
            self._remark(place, f"{file}: its number changes with the order of plugging; use its by-id link")
        there = glob.glob(file)  # noqa: PTH207  # an absolute pattern, which Path has no glob for
        if not there:
            self._remark(place, f"{file} is not there now")
            return
        real = os.path.realpath(there[0])
        owner = self._owner_of.setdefault(real, device.name)
        if owner != device.name:
            self._wrong(place, f"{file} is {real}, which {owner} uses as well")
        if not isinstance(device, SampleDevice) and not stat.S_ISCHR(os.stat(real).st_mode):  # noqa: PTH116
            self._wrong(place, f"{file} is no device, but {_what_is(real)}")
        elif not os.access(real, os.R_OK):
            self._remark(place, f"{file}: this user may not read it; the agent's own user must")

    def _interface(self, place: Place, channel: str) -> None:
        folder = Path("/sys/class/net") / channel
        try:
            kind = int((folder / "type").read_text(encoding="ascii"))
        except (OSError, ValueError):
            self._remark(place, f"there is no interface {channel} now")
            return
        if kind != _ARPHRD_CAN:
            self._wrong(place, f"{channel} is a network interface, but not of a CAN bus")

    def _vehicle_signals(self, device: CanDevice | DiagnosticDevice) -> list[str]:
        from agent.sources.can.decoder_compiler import compile_decoder
        from agent.sources.can.vehicle_file import load_vehicle_file

        try:
            vehicle = load_vehicle_file(device.vehicle)
        except ConfigError as error:
            self.problems += error.problems
            return []
        try:
            compile_decoder(vehicle, device.vehicle)
        except ConfigError as error:
            self.problems += _with_lines(device.vehicle, error.problems)
            return []
        return [wanted.name for wanted in vehicle.signals]

    def _signal(self, place: Place, device: Device, name: str) -> None:
        giver = self._giver_of.setdefault(name, device.name)
        if giver != device.name:
            self._remark(place, f"{name} comes from {giver} and from {device.name}; the newest is taken")

    def _sample_name(self, place: Place, name: str) -> None:
        from agent.sources.can.vss import SIGNALS

        if name not in SIGNALS:
            self._remark(
                place, f"{name} is no VSS name that the agent knows{did_you_mean(name, list(SIGNALS))}"
            )

    # ------------------------------------------------------------------ brokers

    def _broker(self, place: Place, broker: Broker) -> None:
        if broker.password is not None:
            self._password((*place, "password"), broker)
        if broker.tls is None:
            return
        absent = False
        for key in ("ca_file", "certificate_file", "key_file"):
            file = getattr(broker.tls, key)
            if file is not None and not os.access(file, os.R_OK):
                self._remark((*place, "tls", key), f"{file}: can not be read")
                absent = True
        if not absent:
            for key, what in _bad_certificates(broker):
                self._wrong((*place, "tls", key), what)

    def _password(self, place: Place, broker: Broker) -> None:
        if broker.password is None:
            return
        try:
            if not broker.password.read():
                self._remark(place, "it is empty")
        except KeyError:
            self._remark(place, f"the environment has no {broker.password.environment}")
        except OSError as error:
            # Secrets are read at each connection, and may come later; one that is no text never works.
            self._say(
                place, f"{broker.password.file}: {error.strerror}", is_remark=error.errno != errno.EILSEQ
            )

    # ------------------------------------------------------------------ the whole

    def _without_effect(self) -> None:
        """Settings that are given and that nothing asks for in this combination."""
        config = self.config
        has_buttons = any(isinstance(device, ButtonDevice) for device in config.devices)
        if "stuck_after_s" in config.buttons.model_fields_set and not has_buttons:
            # The keys' meanings are those of the crew's page, too, which needs no device.
            self._remark(("buttons", "stuck_after_s"), "has no effect: no device has keys that can be stuck")
        if len(config.uplink.brokers) == 1:
            for key in sorted(config.uplink.model_fields_set & {"fail_over_after_s", "return_after_s"}):
                self._remark(("uplink", key), "has no effect: there is one broker")
        gives_signals = any(
            isinstance(device, CanDevice | DiagnosticDevice | SampleDevice) for device in config.devices
        )
        if "telemetry_interval_s" in config.reporting.model_fields_set and not gives_signals:
            self._remark(("reporting", "telemetry_interval_s"), "has no effect: no device gives signals")

    def _folders(self) -> None:
        folders = {("store", "directory"): self.config.store.directory}
        if self.config.recorder is not None:
            folders["recorder", "directory"] = self.config.recorder.directory
        for place, folder in folders.items():
            if folder.exists() and not folder.is_dir():
                self._wrong(place, f"{folder} is a file, where a folder is expected")


def _with_lines(path: Path, problems: list[str]) -> list[str]:
    """Problems of a vehicle file that its compiler found, which knows keys and no lines."""
    lines = lines_of(read_toml(path))
    found = []
    for problem in problems:
        match = _SIGNAL.match(problem.removeprefix(f"{path}: "))
        place: Place = ("signals", int(match[1]), match[2]) if match else ()
        line = line_of(place, lines)
        named = line is not None and problem.startswith(f"{path}: ")
        found.append(f"{path}:{line}: {problem.removeprefix(f'{path}: ')}" if named else problem)
    return found


def _what_is(path: str) -> str:
    return "a folder" if Path(path).is_dir() else "an ordinary file"


def _bad_certificates(broker: Broker) -> Iterator[tuple[str, str]]:
    """(key of the TLS table, what is wrong) of certificate files that are there and can not be used."""
    tls = broker.tls
    if tls is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.ca_file is not None:
        try:
            context.load_verify_locations(cafile=tls.ca_file)
        except (ssl.SSLError, OSError):
            yield "ca_file", f"{tls.ca_file}: no certificate that can be read is in it"
    if tls.certificate_file is not None and tls.key_file is not None:
        try:
            # An empty password, so that nobody is asked for one.
            context.load_cert_chain(tls.certificate_file, tls.key_file, password=lambda: "")
        except (ssl.SSLError, OSError, ValueError):
            yield "key_file", f"{tls.key_file} is not the key of {tls.certificate_file}, or has a password"
