"""Faults of the computer: its power, its disk, its clock, the daemon itself."""

from __future__ import annotations

from typing import Literal

from hil.scenario.fault import Fault, Site


class _DiskFault(Fault):
    async def lift(self, site: Site) -> None:
        """The disk takes writes again."""
        site.rig.set_disk(None)


class DiskFull(_DiskFault):
    """The disk takes no more: a file-size limit of the operating system."""

    kind: Literal["disk_full"]

    async def apply(self, site: Site) -> None:
        """Refuse writes."""
        site.rig.set_disk("full")


class DiskReadOnly(_DiskFault):
    """The disk may only be read."""

    rigs = ("sim",)
    kind: Literal["disk_read_only"]

    async def apply(self, site: Site) -> None:
        """Refuse writes."""
        site.rig.set_disk("read_only")


class DiskIoError(_DiskFault):
    """The disk fails at writing and at opening."""

    rigs = ("sim",)
    kind: Literal["disk_io_error"]

    async def apply(self, site: Site) -> None:
        """Refuse writes."""
        site.rig.set_disk("io_error")


class PowerCut(Fault):
    """The computer has no power for `for_s`; the button box keeps its own."""

    rigs = ("sim",)
    cuts_off = True
    takes_fix = True
    kind: Literal["power_cut"]

    async def apply(self, site: Site) -> None:
        """The power goes."""
        await site.rig.power_cut()

    async def lift(self, site: Site) -> None:
        """The power is back: a new boot."""
        await site.rig.boot()


class IgnitionOff(Fault):
    """The ignition is off for `for_s`: an orderly stop, and a start."""

    cuts_off = True
    takes_fix = True
    kind: Literal["ignition_off"]

    async def apply(self, site: Site) -> None:
        """Stop in order."""
        await site.rig.shut_down()

    async def lift(self, site: Site) -> None:
        """Start."""
        await site.rig.boot()


class ProcessKill(Fault):
    """The daemon is killed (SIGKILL) and started again."""

    cuts_off = True
    takes_fix = True
    kind: Literal["process_kill"]

    async def apply(self, site: Site) -> None:
        """Kill; the start is the service manager's affair."""
        await site.rig.kill()

    async def lift(self, site: Site) -> None:
        """It was started again already."""


class ProcessFreeze(Fault):
    """The daemon's process does not run for `for_s` (SIGSTOP)."""

    rigs = ("process",)
    cuts_off = True
    takes_fix = True
    kind: Literal["process_freeze"]

    async def apply(self, site: Site) -> None:
        """Stop it."""
        site.rig.freeze()

    async def lift(self, site: Site) -> None:
        """Let it go on."""
        site.rig.thaw()


class ClockStep(Fault):
    """The wall clock steps by `by_s`, and back after `for_s`."""

    rigs = ("sim",)
    kind: Literal["clock_step"]
    by_s: float

    async def apply(self, site: Site) -> None:
        """Step."""
        site.rig.step_clock(round(self.by_s * 1000))

    async def lift(self, site: Site) -> None:
        """Step back."""
        site.rig.step_clock(-round(self.by_s * 1000))
