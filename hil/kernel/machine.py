"""A computer as a process: boot it, listen to its console, cut its power.

The kernel is User-Mode Linux; the host's own files are the guest's root, mounted read-only, so that what
runs inside is this checkout and this environment. Data lives on ext4 images. SIGKILL of the process group is
a power cut: what was in the guest's page cache is gone, what it had written to the disk image stays.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from hil.kernel.linux import CHECKOUT, Linux, RigUnavailable, need_tool

INIT = Path(__file__).with_name("init.sh")
MODULES_CAN = ("drivers/net/can/dev/can-dev", "net/can/can", "net/can/can-raw", "drivers/net/can/vcan")
MODULES_RECORD = ("drivers/md/dm-mod", "drivers/md/dm-log-writes")


@dataclass(frozen=True, slots=True)
class Message:
    """One line that the guest said.

    Attributes:
        word: the first word, e.g. "ACK".
        rest: the others.
    """

    word: str
    rest: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What the machine has.

    Attributes:
        disk: ext4 image, mounted on /run/data after `e2fsck -p`.
        disk_options: what it is mounted with.
        write_log: blank image; every write to `disk` is recorded on it (dm-log-writes).
        writable: folder of the host that the guest may write, on /run/host.
        can: name of a virtual CAN interface, up.
        gpio_lines: number of lines of a simulated GPIO chip, /dev/gpiochip0.
        loopback: bring the loopback network up.
        system: image of a whole system, booted with its own init instead of a program on the host's files.
        memory_mib: size of the guest's memory.
        time_travel: the guest's time leaps to the next timer whenever it would wait.
    """

    disk: Path | None = None
    disk_options: str = "noatime"
    write_log: Path | None = None
    writable: Path | None = None
    can: str | None = None
    gpio_lines: int = 0
    loopback: bool = False
    system: Path | None = None
    memory_mib: int = 192
    time_travel: bool = False


class GuestFaultError(Exception):
    """The guest did not do what it was booted for; the text carries the end of its console."""


@dataclass(slots=True)
class Machine:
    """One boot of the computer. A context manager: whatever happens, nothing of it is left afterwards.

    Attributes:
        linux: the kernel.
        program: what PID 1 runs: a Python module and its arguments (no spaces or quotes in any of them).
        hardware: what the machine has.
        said: the end of the console, for a person.
    """

    linux: Linux
    program: Sequence[str] = ()
    hardware: Hardware = Hardware()
    said: deque[str] = field(default_factory=lambda: deque(maxlen=60))
    _process: subprocess.Popen[bytes] | None = None
    _scratch: Path | None = None
    _partial: bytes = b""
    _waiting: deque[Message] = field(default_factory=deque)

    def start(self) -> None:
        """Switch the power on.

        Raises:
            RigUnavailable: when the hardware asked for is not in this kernel.
        """
        command = self._command_line()
        self._scratch = Path(tempfile.mkdtemp(prefix="mdt-machine-"))
        self._process = subprocess.Popen(
            [*command[:1], f"uml_dir={self._scratch}/", *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def next_message(self, timeout_s: float) -> Message | None:
        """The next line the guest says, or None once it is off.

        Raises:
            TimeoutError: when it says nothing for `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while not self._waiting:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._console()], [], [], left)[0]:
                raise TimeoutError(f"the guest said nothing for {timeout_s:.1f} s")
            chunk = os.read(self._console(), 65536)
            if not chunk:
                return None
            self._take(chunk)
        return self._waiting.popleft()

    def messages(self, timeout_s: float) -> Iterator[Message]:
        """What the guest says until it is off, or until `timeout_s` has passed in all."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                message = self.next_message(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                return
            if message is None:
                return
            yield message

    def wait_for(self, word: str, timeout_s: float) -> Message:
        """Skip to the next message that starts with `word`.

        Raises:
            GuestFaultError: when it does not come in time, or the machine goes off or reports a fault before.
        """
        for message in self.messages(timeout_s):
            if message.word == word:
                return message
            if message.word == "FAULT":
                break
        raise GuestFaultError(f"waited for {word}; the guest's last words:\n" + "\n".join(self.said))

    def goes_off(self, within_s: float) -> bool:
        """Whether it goes off by itself, at the latest after a time: its console ends a little earlier."""
        try:
            self._running().wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def power_cut(self) -> list[Message]:
        """Cut the power now. Returns what was said before the cut and not yet read."""
        process = self._running()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        while chunk := os.read(self._console(), 65536):
            self._take(chunk)
        rest = list(self._waiting)
        self._waiting.clear()
        return rest

    def close(self) -> None:
        """Leave nothing behind; cuts the power of a machine that still runs."""
        if self._process is not None:
            self.power_cut()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the machine is off")
        return self._process

    def _console(self) -> int:
        stdout = self._running().stdout
        assert stdout is not None
        return stdout.fileno()

    def _take(self, chunk: bytes) -> None:
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace").strip()
            self.said.append(text)
            if text.startswith("@"):
                word, *rest = text[1:].split() or [""]
                self._waiting.append(Message(word, tuple(rest)))

    def _command_line(self) -> list[str]:
        hardware = self.hardware
        if (hardware.time_travel or hardware.gpio_lines) and not self.linux.purpose_built:
            raise RigUnavailable("this needs the purpose-built kernel: run `make rig`")
        kernel = [
            str(self.linux.path),
            f"mem={hardware.memory_mib}M",
            *("quiet", "console=tty0", "con=null", "con0=null,fd:1", "ssl=null"),
        ]
        if hardware.system:
            boot = ("root=/dev/ubda", "rw", "init=/sbin/init", "systemd.show_status=0", "TERM=dumb")
            return [*kernel, f"ubd0={hardware.system}", *boot]
        kernel += ["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={INIT}"]
        kernel += [f"ubd{i}={disk}" for i, disk in enumerate((hardware.disk, hardware.write_log)) if disk]
        if hardware.time_travel:
            kernel.append("time-travel=inf-cpu")
        return [*kernel, "--", *self._settings(), "run", *self._interpreter(), *self.program]

    def _settings(self) -> list[str]:
        hardware = self.hardware
        names = (MODULES_CAN if hardware.can else ()) + (MODULES_RECORD if hardware.write_log else ())
        if names and self.linux.modules:
            need_tool("insmod", "kmod")
        if hardware.write_log:
            need_tool("dmsetup", "dmsetup")
        if hardware.can:
            need_tool("ip", "iproute2")
        settings = [f"module={self.linux.modules}/{name}.ko" for name in names if self.linux.modules]
        site_packages = sysconfig.get_path("purelib")
        settings.append(f"PYTHONPATH={CHECKOUT}:{site_packages}")
        settings += [f"can={hardware.can}"] if hardware.can else []
        settings += ["loopback=up"] if hardware.loopback else []
        settings += [f"gpio={hardware.gpio_lines}"] if hardware.gpio_lines else []
        settings += [f"writable={hardware.writable}"] if hardware.writable else []
        settings.append(f"DISK_OPTIONS={hardware.disk_options}")
        if hardware.write_log:
            settings += ["record=1", "disk=/dev/mapper/recorded"]
        elif hardware.disk:
            settings.append("disk=/dev/ubda")
        return settings

    def _interpreter(self) -> list[str]:
        # -S: without the start-up files of the environment, which cost 0.1 s in a kernel that is a process.
        return [os.path.realpath(sys.executable), "-S", "-B", "-m"]
