"""Sectors of a file that the disk does not give any more, for a program that reads them as any other.

A shared library, compiled here and loaded before the C library, answers reads of the sectors that a list
names with EIO, as the kernel does of a card whose sectors have died. A file is known by its inode: what takes
its name later lies elsewhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int dead(int fd, long long offset, size_t size) {
    const char *list = getenv("DEAD_SECTORS");
    struct stat file;
    unsigned long long inode;
    long long first, end;
    int found = 0;
    FILE *lines;
    if (!list || fstat(fd, &file) || !S_ISREG(file.st_mode) || !(lines = fopen(list, "re"))) return 0;
    while (fscanf(lines, "%llu %lld %lld", &inode, &first, &end) == 3)
        found |= inode == file.st_ino && offset < end && offset + (long long)size > first;
    fclose(lines);
    return found;
}

#define READ_AT(name, offset_t) \
    ssize_t name(int fd, void *to, size_t size, offset_t offset) { \
        static ssize_t (*real)(int, void *, size_t, offset_t); \
        if (!real) real = (ssize_t (*)(int, void *, size_t, offset_t))dlsym(RTLD_NEXT, #name); \
        if (dead(fd, offset, size)) { errno = EIO; return -1; } \
        return real(fd, to, size, offset); \
    }
READ_AT(pread, off_t)
READ_AT(pread64, off64_t)

ssize_t read(int fd, void *to, size_t size) {
    static ssize_t (*real)(int, void *, size_t);
    off_t offset = lseek(fd, 0, SEEK_CUR);
    if (!real) real = (ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    if (offset >= 0 && dead(fd, offset, size)) { errno = EIO; return -1; }
    return real(fd, to, size);
}
"""


def can_be_had() -> bool:
    """True where there is a compiler for C."""
    return shutil.which("cc") is not None


class DeadSectors:
    """The library and its list, in a folder; both hold for whatever runs with `environment`."""

    def __init__(self, folder: Path) -> None:
        """Compile the library. Raises CalledProcessError."""
        self._library = folder / "dead_sectors.so"
        self._list = folder / "dead_sectors"
        source = folder / "dead_sectors.c"
        source.write_text(_SOURCE, encoding="ascii")
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(self._library), str(source), "-ldl"]
        subprocess.run(command, check=True, capture_output=True)
        self.revive()

    @property
    def environment(self) -> Mapping[str, str]:
        """What the program that is to meet them is started with."""
        return {**os.environ, "LD_PRELOAD": str(self._library), "DEAD_SECTORS": str(self._list)}

    def kill(self, file: Path, spans: Iterable[tuple[int, int]]) -> None:
        """From now on the disk does not give these bytes of `file`, (first, end) each."""
        kill(self._list, file, spans)

    def revive(self) -> None:
        """From now on the disk gives everything."""
        self._list.write_text("", encoding="ascii")


def kill(dead: Path, file: Path, spans: Iterable[tuple[int, int]]) -> None:
    """Add to the list `dead`, which the library reads, as the program itself may do."""
    inode = file.stat().st_ino
    lines = dead.read_text(encoding="ascii")
    lines += "".join(f"{inode} {first} {end}\n" for first, end in spans)
    fresh = dead.with_suffix(".new")
    fresh.write_text(lines, encoding="ascii")
    fresh.replace(dead)
