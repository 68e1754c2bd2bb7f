"""A PostgreSQL cluster of its own in a folder, on a Unix socket only; it ends with its user."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Self

READY_WITHIN_S = 60
_DEBIAN = Path("/usr/lib/postgresql")


class PostgresUnavailableError(Exception):
    """PostgreSQL is not installed, or can not be run by this user."""


def find_postgres() -> Path | None:
    """Folder of the newest server's programs; None where there is none."""
    found = sorted(
        (one for one in _DEBIAN.glob("*/bin/initdb")), key=lambda one: float(one.parent.parent.name)
    )
    if found:
        return found[-1].parent
    program = shutil.which("initdb")
    return None if program is None else Path(program).resolve().parent


class PostgresProcess:
    """Started once, with any number of databases. Blocking calls. Raises PostgresUnavailableError when made.

    Args:
        directory: for data, socket and log; a short path, since a socket's name is bounded.
    """

    def __init__(self, directory: Path) -> None:
        programs = find_postgres()
        if programs is None:
            raise PostgresUnavailableError("PostgreSQL is not installed (apt-get install postgresql)")
        self._programs = programs
        self._directory = directory
        # The server refuses to run as root; Debian's package brings a user for it.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            try:
                pwd.getpwnam(self._user)
            except KeyError as error:
                raise PostgresUnavailableError("as root a user `postgres` is needed") from error
        self._made = 0

    def start(self) -> None:
        """Start it, with a fresh cluster the first time."""
        data = self._directory / "data"
        if not data.exists():
            self._directory.mkdir(parents=True, exist_ok=True)
            if self._user is not None:
                shutil.chown(self._directory, self._user)
                for folder in self._directory.parents:
                    if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
                        folder.chmod(folder.stat().st_mode | 0o011)  # to be walked through
            self._run("initdb", "-D", str(data), "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8")
        self._run(
            *("pg_ctl", "-D", str(data), "-l", str(self._directory / "log"), "-w", "-t", str(READY_WITHIN_S)),
            *(
                "-o",
                f"-c listen_addresses='' -k {self._directory} -c fsync=on -c max_connections=40",
                "start",
            ),
        )

    def stop(self, how: str = "fast") -> None:
        """Stop it; "immediate" is as a crash."""
        self._run("pg_ctl", "-D", str(self._directory / "data"), "-w", "-m", how, "stop")

    def kill(self) -> None:
        """End all of it at once, as a power cut or the kernel would."""
        first = int((self._directory / "data" / "postmaster.pid").read_text().split()[0])
        of_it = [first, *_children(first)]
        for pid in of_it:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        pause = threading.Event()
        for _ in range(READY_WITHIN_S * 100):
            if not any(_lives(pid) for pid in of_it):
                break
            pause.wait(0.01)
        # Where nobody buries the dead, a server that starts takes their numbers in here for living ones.
        for file in (self._directory / "data" / "postmaster.pid", *self._directory.glob(".s.PGSQL.*.lock")):
            file.unlink(missing_ok=True)

    def new_database(self, folder: Path | None = None) -> str:
        """URL of a fresh database, whose tables lie in another folder when one is given."""
        self._made += 1
        name = f"units{self._made}"
        more = []
        if folder is not None:
            if self._user is not None:
                shutil.chown(folder, self._user)
            command = f"CREATE TABLESPACE at_{name} LOCATION '{folder}'"
            self._run("psql", "-h", str(self._directory), "-U", "postgres", "-c", command)
            more = ["-D", f"at_{name}"]
        self._run("createdb", "-h", str(self._directory), "-U", "postgres", *more, name)
        return f"postgresql://postgres@/{name}?host={self._directory}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if (self._directory / "data" / "postmaster.pid").exists():
            self.stop("immediate")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        if self._user is not None:
            command = ["runuser", "-u", self._user, "--", *command]
        with (self._directory / "commands.log").open("ab") as log:
            done = subprocess.run(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=False, cwd="/", timeout=120
            )
        if done.returncode != 0:
            text = (self._directory / "commands.log").read_text(errors="replace")[-800:]
            raise OSError(f"{program}: {text}")


def _children(pid: int) -> list[int]:
    """Processes whose parent it is."""
    found = []
    for one in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int(one.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(one.parent.name))
    return found


def _lives(pid: int) -> bool:
    """Whether it runs; a zombie, which nobody waits for here, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
