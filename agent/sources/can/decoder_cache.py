"""Decoders that were made before, as JSON, so that a start needs neither cantools nor the memory it takes.

A decoder is a function of the vehicle file, the DBC and the code that compiles them. The digest of these
three stands in the file; when it is another, or the file is damaged, the decoder is made again, by a process
of its own: cantools brings 2.3 MiB that the agent would carry for weeks after a tenth of a second of use.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agent.config import ConfigError
from agent.runtime.worker import Worker
from agent.sources.can.can_decoder import CanDecoder
from agent.sources.can.decoder_json import from_json, to_json
from agent.sources.can.vehicle_file import VehicleFile

COMPILER = "agent.sources.can.decoder_compiler"
COMPILE_TIMEOUT_S = 30.0
"""Half of what systemd gives the whole start. It takes half a second on a small x86 machine."""
_CODE = (
    "can_decoder.py",
    "decoder_cache.py",
    "decoder_compiler.py",
    "decoder_json.py",
    "dbc_excerpt.py",
    "j1939_catalogue.py",
    "known_sources.py",
    "obd_catalogue.py",
    "vehicle_file.py",
    "vss.py",
)


class DecoderCache:
    """Decoders of vehicle files, one JSON file each.

    Args:
        directory: where they are kept; made when needed. Without write access nothing is kept.
        on_trouble: is told in one sentence why a decoder was not kept or not made by a process of its own.
    """

    def __init__(self, directory: Path, on_trouble: Callable[[str], None]) -> None:
        self._directory = directory
        self._on_trouble = on_trouble
        self._compiling: subprocess.Popen[str] | None = None
        self._is_given_up = False

    async def decoder_by(self, worker: Worker, vehicle: VehicleFile, path: Path) -> CanDecoder:
        """`decoder`, made by a worker, which is closed after it. Cancelling it ends the compiler.

        Raises:
            ConfigError: as `compile_decoder` does.
        """
        try:
            return await worker.run(lambda: self.decoder(vehicle, path))
        finally:
            compiling = self._compiling
            if compiling is not None:
                self._is_given_up = True
                compiling.kill()
            await worker.close()

    def decoder(self, vehicle: VehicleFile, path: Path) -> CanDecoder:
        """The decoder of a vehicle file; `path` names the file in messages. Blocking, up to half a minute.

        Raises:
            ConfigError: as `compile_decoder` does.
        """
        name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:16]
        file = self._directory / f"{name}.json"
        try:
            digest = _digest(vehicle)
        except OSError:
            # The DBC can not be read: the compiler has the words for it.
            return self._compiled(vehicle, path)
        decoder = _kept(file, digest)
        if decoder is None:
            decoder = self._compiled(vehicle, path)
            self._keep(file, digest, decoder)
        return decoder

    def _compiled(self, vehicle: VehicleFile, path: Path) -> CanDecoder:
        if vehicle.dbc is not None and "cantools" not in sys.modules:
            try:
                return self._compiled_elsewhere(vehicle, path)
            except (OSError, subprocess.SubprocessError, ValueError, TypeError, LookupError) as error:
                if self._is_given_up:
                    raise
                # No process to be had, or killed for want of memory: better large than blind.
                self._on_trouble(f"the compiler did not do as a process of its own: {error!r}")
        from agent.sources.can.decoder_compiler import compile_decoder

        return compile_decoder(vehicle, path)

    def _compiled_elsewhere(self, vehicle: VehicleFile, path: Path) -> CanDecoder:
        """Let the compiler's own command make the decoder.

        Raises:
            ConfigError: what the compiler found.
            OSError, SubprocessError, ValueError, TypeError, LookupError: it gave no proper answer.
        """
        # -P: not from whatever folder the agent was started in.
        command = [sys.executable, "-P", "-m", COMPILER, str(path)]
        with subprocess.Popen(  # noqa: S603  # our own interpreter and module; the path is one argument
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        ) as compiling:
            self._compiling = compiling
            try:
                said, _ = compiling.communicate(
                    vehicle.model_dump_json(exclude_unset=True), timeout=COMPILE_TIMEOUT_S
                )
            finally:
                self._compiling = None
                compiling.kill()
        if compiling.returncode:
            raise subprocess.CalledProcessError(compiling.returncode, command)
        answer: dict[str, Any] = json.loads(said)
        if "problems" in answer:
            raise ConfigError([str(problem) for problem in answer["problems"]])
        return from_json(answer["decoder"])

    def _keep(self, file: Path, digest: str, decoder: CanDecoder) -> None:
        # Not synchronised with the disk: what a power cut leaves of it is told by the digest and made again.
        fresh = file.with_suffix(".new")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(_sealed(digest, to_json(decoder)), encoding="utf-8")
            fresh.replace(file)
        except OSError as error:
            self._on_trouble(f"{file}: not kept: {error.strerror}")


def _digest(vehicle: VehicleFile) -> str:
    """Of everything that a decoder is made from. Raises OSError."""
    digest = hashlib.sha256(
        vehicle.model_dump_json(exclude={"dbc", "description"}, exclude_unset=True).encode()
    )
    if vehicle.dbc is not None:
        digest.update(vehicle.dbc.read_bytes())
    for name in _CODE:
        digest.update(Path(__file__).with_name(name).read_bytes())
    # cantools is not loaded to ask for its version: an installation of another one has another time.
    spec = find_spec("cantools")
    if spec is not None and spec.origin is not None:
        digest.update(f"{spec.origin} {Path(spec.origin).stat().st_mtime_ns}".encode())
    return digest.hexdigest()


def _sealed(digest: str, text: str) -> str:
    """Two lines: the digest of what the decoder was made from with the digest of the decoder; the decoder."""
    return f"{digest} {hashlib.sha256(text.encode()).hexdigest()}\n{text}\n"


def _kept(file: Path, digest: str) -> CanDecoder | None:
    """What was kept under `digest`, if it is that and whole."""
    try:
        sealed = file.read_text(encoding="utf-8")
        text = sealed.partition("\n")[2].removesuffix("\n")
        return from_json(text) if sealed == _sealed(digest, text) else None
    except (OSError, ValueError, TypeError, LookupError):
        return None
