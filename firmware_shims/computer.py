"""What Linux tells of the computer in /sys and /proc. Blocking: a hung disk may take its time."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from agent.domain.device_health import ComputerState
from agent.domain.modem import ModemState
from firmware_shims.modem import ModemManager

MODEM_EVERY_READS = 3
_MIB = 1024 * 1024
_UNDER_VOLTAGE, _THROTTLED, _WAS_UNDER_VOLTAGE = 1 << 0, 1 << 2, 1 << 16
"""Bits of the firmware's get_throttled (Raspberry Pi)."""
_LIFE_STEP_PERCENT = 10
_LIFE_TIMES = range(1, 12)


class LinuxComputer:
    """Reads a computer.

    Args:
        data: a folder on the data disk; it need not exist yet.
        root: where /sys and /proc are; "/" but for tests.
    """

    def __init__(self, data: Path, root: Path = Path("/")) -> None:
        self._data = data
        self._root = root
        self._modem_manager = ModemManager(root)
        self._modem: ModemState | None = None
        self._reads = 0

    def read(self) -> ComputerState:
        """Read everything anew. Never raises: what can not be read is None."""
        throttled = self._throttled()
        under = None if throttled is None else bool(throttled & _UNDER_VOLTAGE)
        was_under = None if throttled is None else bool(throttled & _WAS_UNDER_VOLTAGE)
        room = self._room()
        return ComputerState(
            cpu_c=self._cpu_c(),
            is_under_voltage=self._volt_alarm() if under is None else under,
            was_under_voltage=was_under,
            is_throttled=None if throttled is None else bool(throttled & _THROTTLED),
            memory_free_mib=self._memory_free_mib(),
            disk_free_mib=None if room is None else room.f_bavail * room.f_frsize / _MIB,
            disk_mib=None if room is None else room.f_blocks * room.f_frsize / _MIB,
            disk_read_only=None if room is None else bool(room.f_flag & os.ST_RDONLY),
            disk_errors=_integer(_first(self._sys_fs("errors_count"))),
            disk_worn_percent=self._worn_percent(),
            uptime_s=self._uptime_s(),
            modem=self._read_modem(),
        )

    def _read_modem(self) -> ModemState | None:
        """Not at each reading: it is a conversation with another program."""
        if self._reads % MODEM_EVERY_READS == 0:
            self._modem = self._modem_manager.read()
        self._reads += 1
        return self._modem

    def _cpu_c(self) -> float | None:
        zones = _matching(self._root / "sys/class/thermal", "thermal_zone*")
        cpu = [zone for zone in zones if "cpu" in (_text(zone / "type") or "").lower()]
        found = [value for zone in cpu or zones if (value := _integer(_text(zone / "temp"))) is not None]
        return max(found) / 1000 if found else None

    def _throttled(self) -> int | None:
        text = _first(
            _text(path)
            for path in _matching(self._root / "sys/devices/platform", "soc*/*firmware/get_throttled")
        )
        try:
            return None if text is None else int(text, 16)
        except ValueError:
            return None

    def _volt_alarm(self) -> bool | None:
        for sensor in _matching(self._root / "sys/class/hwmon", "hwmon*"):
            if _text(sensor / "name") == "rpi_volt":
                alarm = _integer(_text(sensor / "in0_lcrit_alarm"))
                return None if alarm is None else bool(alarm)
        return None

    def _memory_free_mib(self) -> float | None:
        for line in (_text(self._root / "proc/meminfo") or "").splitlines():
            name, _, rest = line.partition(":")
            if name == "MemAvailable":
                kib = _integer(rest.removesuffix("kB"))
                return None if kib is None else kib / 1024
        return None

    def _uptime_s(self) -> float | None:
        try:
            return float((_text(self._root / "proc/uptime") or "").split()[0])
        except (ValueError, IndexError):
            return None

    def _room(self) -> os.statvfs_result | None:
        for folder in (self._data, *self._data.parents):
            try:
                return os.statvfs(folder)
            except FileNotFoundError:
                continue
            except OSError:
                return None
        return None

    def _disk_names(self) -> list[str]:
        """The block device of the data and the disk that it is a part of, such as mmcblk0p2 and mmcblk0."""
        try:
            number = os.stat(next(one for one in (self._data, *self._data.parents) if one.exists())).st_dev  # noqa: PTH116
            device = (self._root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve(
                strict=True
            )
        except (OSError, StopIteration):
            return []
        return [device.name, device.parent.name]

    def _sys_fs(self, name: str) -> Iterable[str | None]:
        return (_text(self._root / "sys/fs/ext4" / disk / name) for disk in self._disk_names())

    def _worn_percent(self) -> float | None:
        text = _first(
            _text(self._root / "sys/block" / disk / "device/life_time") for disk in self._disk_names()
        )
        try:
            steps = [int(one, 16) for one in (text or "").split()]
        except ValueError:
            return None
        known = [step for step in steps if step in _LIFE_TIMES]
        # 0 is "not defined"; 1 is 0 to 10 % used, and so on; 11 is beyond its life.
        return float(max(known) * _LIFE_STEP_PERCENT) if known else None


def _matching(folder: Path, pattern: str) -> list[Path]:
    """What matches in a folder, sorted; nothing where it can not be looked into."""
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _integer(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _first(texts: Iterable[str | None]) -> str | None:
    return next((text for text in texts if text is not None), None)
