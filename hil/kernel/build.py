"""Set up the kernel rig: `python -m hil.kernel.build`, which `make rig` runs.

Installs the tools the rig needs and builds, once, a kernel for it from Debian's own kernel source package.
Nothing is done a second time: a rig that is complete is only looked at.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hil.kernel.linux import RigUnavailable, rig_folder

CONFIG = Path(__file__).with_name("rig.config")
TOOLS = {"e2fsck": "e2fsprogs", "dmsetup": "dmsetup", "ip": "iproute2", "debootstrap": "debootstrap"}
"""What the rig runs, and the Debian package of each."""
COMPILER = {"gcc": "gcc", "make": "make", "flex": "flex", "bison": "bison", "bc": "bc", "xz": "xz-utils"}
HEADERS = {"/usr/include/libelf.h": "libelf-dev", "/usr/include/openssl/ssl.h": "libssl-dev"}


def main() -> int:
    """Entry point: 0 the rig is ready, 2 it can not be set up here (the reason is printed)."""
    parser = argparse.ArgumentParser(prog="python -m hil.kernel.build", description=__doc__)
    parser.add_argument("--out", type=Path, metavar="DIR", default=rig_folder(), help="default: %(default)s")
    parser.add_argument("--force", action="store_true", help="build the kernel although there is one")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="default: %(default)s")
    args = parser.parse_args()
    try:
        set_up(args.out, force=args.force, jobs=args.jobs)
    except RigUnavailable as reason:
        print(f"rig: {reason}")
        return 2
    return 0


def set_up(folder: Path, *, force: bool = False, jobs: int = 1) -> None:
    """Make the rig complete: tools and kernel.

    Raises:
        RigUnavailable: when this machine can not have it, saying why and what to do.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise RigUnavailable("User-Mode Linux runs on x86-64 Linux only")
    kernel, stamp = folder / "linux", folder / "linux.config.sha256"
    digest = hashlib.sha256(CONFIG.read_bytes()).hexdigest()
    named = os.environ.get("MDT_RIG_KERNEL")
    present = named or (kernel.exists() and (not stamp.exists() or stamp.read_text().strip() == digest))
    build = force or not present
    _install(_missing(TOOLS | (COMPILER if build else {}), HEADERS if build else {}))
    if not build:
        print(f"rig: ready, kernel {named or kernel}")
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="linux-", dir=folder) as scratch:
        built = build_kernel(Path(scratch), jobs=jobs)
        # Into place at once: an interrupted build leaves no half a kernel behind.
        built.replace(kernel)
    stamp.write_text(digest + "\n", encoding="ascii")
    print(f"rig: ready, kernel {kernel}")


def build_kernel(scratch: Path, *, jobs: int) -> Path:
    """Build in `scratch`, from Debian's source package, a kernel with everything of `rig.config` in it.

    Raises:
        RigUnavailable: when the source can not be had or does not build.
    """
    tree = _unpack_source(scratch)
    # Without spare interrupt numbers a request for GPIO edges fails (ENXIO); only PCI brings some by default.
    irq = tree / "arch/um/include/asm/irq.h"
    irq.write_text(
        irq.read_text(encoding="utf-8").replace("#ifdef CONFIG_PCI_MSI", "#if 1"), encoding="utf-8"
    )
    print(f"rig: building the kernel, some minutes with {jobs} jobs ...", flush=True)
    log = scratch / "build.log"
    make = ["make", "ARCH=um", f"-j{jobs}"]
    for command in (
        [*make, "defconfig"],
        ["scripts/kconfig/merge_config.sh", "-m", ".config", str(CONFIG)],
        [*make, "olddefconfig"],
        [*make, "linux"],
        ["strip", "-o", str(scratch / "linux"), "linux"],
    ):
        _step(command, tree, log)
    _check_options(tree / ".config")
    return scratch / "linux"


def _unpack_source(scratch: Path) -> Path:
    depends = _output(["apt-cache", "depends", "--important", "linux-source"])
    names = [word for word in depends.split() if word.startswith("linux-source-")]
    if not names:
        raise RigUnavailable(
            "apt knows no linux-source package: is this Debian, and was `apt-get update` run?"
        )
    print(f"rig: downloading {names[0]} (about 130 MB) ...", flush=True)
    log = scratch / "build.log"
    _step(["apt-get", "download", names[0]], scratch, log)
    package = next(scratch.glob("linux-source-*.deb"))
    _step(["dpkg-deb", "-x", package.name, "package"], scratch, log)
    archive = next((scratch / "package/usr/src").glob("linux-source-*.tar.xz"))
    _step(["tar", "-xf", str(archive)], scratch, log)
    package.unlink()
    shutil.rmtree(scratch / "package")
    return scratch / archive.name.removesuffix(".tar.xz")


def _check_options(config: Path) -> None:
    got = set(config.read_text(encoding="utf-8").splitlines())
    wanted = [line for line in CONFIG.read_text(encoding="utf-8").splitlines() if line.startswith("CONFIG_")]
    missing = [line for line in wanted if line not in got]
    if missing:
        # A renamed option must not silently become a rig that tests less.
        raise RigUnavailable(f"this kernel source does not take {', '.join(missing)}")


def _missing(tools: dict[str, str], files: dict[str, str]) -> list[str]:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    packages = [package for tool, package in tools.items() if shutil.which(tool, path=path) is None]
    return packages + [package for file, package in files.items() if not Path(file).exists()]


def _install(packages: Sequence[str]) -> None:
    if not packages:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise RigUnavailable(f"missing; as root run: {' '.join(command)}")
    print(f"rig: installing {', '.join(packages)} ...", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RigUnavailable(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")


def _step(command: Sequence[str], folder: Path, log: Path) -> None:
    with log.open("a") as output:
        done = subprocess.run(command, check=False, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise RigUnavailable(f"`{' '.join(command)}` failed:\n{tail}")


def _output(command: Sequence[str]) -> str:
    if shutil.which(command[0]) is None:
        raise RigUnavailable(f"{command[0]} is missing: the kernel is built from Debian's source package")
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
