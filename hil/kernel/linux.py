"""Which kernel the rig boots, and what is missing when it can not."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
DEBIAN_MODULES = Path("/usr/lib/uml/modules")


class RigUnavailable(Exception):  # noqa: N818 - a state of the machine the rig runs on, not a fault
    """The rig can not run here; the text says what is missing and how to get it."""


@dataclass(frozen=True, slots=True)
class Linux:
    """A bootable User-Mode Linux kernel.

    Attributes:
        path: the executable.
        modules: folder of its loadable modules, None when everything is built in.
    """

    path: Path
    modules: Path | None

    @property
    def purpose_built(self) -> bool:
        """True for the kernel of `hil.kernel.build`: gpio-sim, ISO-TP and time travel are in."""
        return self.modules is None


def rig_folder() -> Path:
    """Where the rig keeps what it built: `.rig` in the checkout, or MDT_RIG_DIR."""
    return Path(os.environ.get("MDT_RIG_DIR") or CHECKOUT / ".rig")


def find_linux(*, purpose_built: bool = False) -> Linux:
    """The best kernel here: MDT_RIG_KERNEL, else the one `hil.kernel.build` made, else Debian's.

    Args:
        purpose_built: accept only a kernel with gpio-sim and time travel.

    Raises:
        RigUnavailable: when there is none.
    """
    named = os.environ.get("MDT_RIG_KERNEL")
    if named and not os.access(named, os.X_OK):
        raise RigUnavailable(f"MDT_RIG_KERNEL={named} is not an executable file")
    for path in (Path(named) if named else None, rig_folder() / "linux"):
        if path is not None and os.access(path, os.X_OK):
            return Linux(path, modules=None)
    if purpose_built:
        raise RigUnavailable("no purpose-built kernel: run `make rig`")
    debian = shutil.which("linux.uml")
    modules = sorted(DEBIAN_MODULES.glob("*/kernel"))
    if debian is None or not modules:
        raise RigUnavailable("no User-Mode Linux kernel: run `make rig`, or install Debian's user-mode-linux")
    return Linux(Path(debian), modules[-1])


def need_tool(name: str, package: str) -> str:
    """Path of an administration tool.

    Raises:
        RigUnavailable: naming the Debian package it comes in.
    """
    # Debian keeps these out of the search path of ordinary users.
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise RigUnavailable(f"{name} is missing: install the Debian package {package}")
    return found
