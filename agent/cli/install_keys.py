"""`mdt install-keys`: the bundle that dispatch made for this vehicle goes to where the agent reads it."""

from __future__ import annotations

import os
import pwd
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from agent.cli.exit_code import ExitCode

FILES = ("ca.pem", "client.pem", "client.key")
"""What a bundle holds, no more and no less."""
MAX_BYTES = 65_536
_OWNER = "mdt"


def install_keys(bundle: Path, folder: Path, out: TextIO, err: TextIO) -> int:
    """Unpack a bundle into `folder`, readable by the agent alone. Returns the exit code."""
    try:
        contents = _read(bundle)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            _put(folder / name, content)
    except (OSError, ValueError, tarfile.TarError) as error:
        err.write(f"mdt install-keys: {bundle}: {error}\n")
        return ExitCode.BAD_CONFIG
    out.write(f"{', '.join(FILES)} are in {folder}. Delete {bundle} now: it holds the key.\n")
    return ExitCode.OK


def _read(bundle: Path) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    with tarfile.open(bundle, "r:") as tar:
        for member in tar:
            if member.name not in FILES or not member.isfile() or member.size > MAX_BYTES:
                raise ValueError(f"{member.name!r:.80} does not belong into a bundle of keys")
            file = tar.extractfile(member)
            assert file is not None
            contents[member.name] = file.read()
    missing = [name for name in FILES if not contents.get(name, b"").startswith(b"-----BEGIN ")]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing")
    return {name: contents[name] for name in FILES}


def _put(path: Path, content: bytes) -> None:
    """The new file is whole before it takes the old one's place."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if os.geteuid() == 0:
        with suppress(KeyError):  # not installed on this computer: the files stay root's
            owner = pwd.getpwnam(_OWNER)
            os.chown(fresh, owner.pw_uid, owner.pw_gid)
    fresh.replace(path)
