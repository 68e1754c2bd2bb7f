"""What can go wrong with the store, each as an exception the facade acts on."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from agent.domain.health import HealthReason
from agent.domain.record import Stream

STORE_REASONS = (HealthReason.STORE_FULL, HealthReason.STORE_READ_ONLY, HealthReason.STORE_IO_ERROR)
"""The reasons that say that the disk refuses writing."""

_REASON_OF_CODE = {
    sqlite3.SQLITE_FULL: HealthReason.STORE_FULL,
    sqlite3.SQLITE_READONLY: HealthReason.STORE_READ_ONLY,
    sqlite3.SQLITE_IOERR: HealthReason.STORE_IO_ERROR,
    sqlite3.SQLITE_CANTOPEN: HealthReason.STORE_IO_ERROR,
    sqlite3.SQLITE_PERM: HealthReason.STORE_READ_ONLY,
    sqlite3.SQLITE_AUTH: HealthReason.STORE_READ_ONLY,
    sqlite3.SQLITE_BUSY: HealthReason.STORE_IO_ERROR,
    sqlite3.SQLITE_LOCKED: HealthReason.STORE_IO_ERROR,
    sqlite3.SQLITE_NOLFS: HealthReason.STORE_FULL,
    sqlite3.SQLITE_PROTOCOL: HealthReason.STORE_IO_ERROR,
}
_REASON_OF_ERRNO = {
    errno.ENOSPC: HealthReason.STORE_FULL,
    errno.EDQUOT: HealthReason.STORE_FULL,
    errno.EFBIG: HealthReason.STORE_FULL,
    errno.EROFS: HealthReason.STORE_READ_ONLY,
    errno.EACCES: HealthReason.STORE_READ_ONLY,
    errno.EPERM: HealthReason.STORE_READ_ONLY,
}
_DAMAGE_CODES = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    # The statements are right: where a row does not fit, what stands there already is not what was written.
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_TOOBIG,
)
_READ_CODES = (
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    # What SQLite makes of EIO, which is what a dead sector says. In the middle of a statement it even makes
    # SQLITE_CORRUPT of that: whether damage is one, StoreFile.unreadable knows.
    sqlite3.SQLITE_IOERR_CORRUPTFS,
)
_PRIMARY_CODE = 0xFF


class StoreFaultError(Exception):
    """The disk refuses: an expected state that ends when the disk takes writes again.

    Attributes:
        reason: the health reason that names it.
        detail: one plain sentence for a person.
        unreadable: True when something could not be read, which may be a sector that has died.
        in_doubt: True when the refused transaction may nevertheless be found on the disk after re-opening.
    """

    def __init__(
        self, reason: HealthReason, detail: str, *, in_doubt: bool = False, unreadable: bool = False
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.unreadable = unreadable
        self.reason = reason
        self.detail = detail
        self.in_doubt = in_doubt


class StoreDamagedError(Exception):
    """The store's content is not what was written: it is to be set aside."""


class RowDamagedError(StoreDamagedError):
    """One record is not what was written; all around it may be sound.

    Attributes:
        stream: of the record.
        seq: the number under which it lies.
    """

    def __init__(self, stream: Stream, seq: object) -> None:
        super().__init__(f"the record {seq} of {stream} is not what was written")
        self.stream = stream
        self.seq = seq


class StoreMovedError(Exception):
    """The file that is open is no longer the one that the next start would find."""


class StoreVersionError(Exception):
    """The store was made by a newer agent, or is no outbox: it is set aside whole, as it is.

    Attributes:
        why: which of the two.
    """

    def __init__(self, text: str, why: Literal["newer", "foreign"] = "foreign") -> None:
        super().__init__(text)
        self.why: Literal["newer", "foreign"] = why


class OutboxClosedError(Exception):
    """The outbox was closed before this record could be stored."""


LIBRARY_ERRORS = (sqlite3.Error, OSError, MemoryError, UnicodeDecodeError)
"""What SQLite and the operating system raise for what a disk does."""


@contextmanager
def named_faults(path: str) -> Iterator[None]:
    """Turn what sqlite3 and the operating system raise into the exceptions of this module.

    Raises StoreFaultError or StoreDamagedError; mistakes in the program's own SQL pass through unchanged.
    """
    try:
        yield
    except LIBRARY_ERRORS as error:
        named = named_fault(path, error)
        if named is error:
            raise
        raise named from error


def named_fault(path: str, error: BaseException) -> BaseException:
    """The exception of this module for one of LIBRARY_ERRORS; a mistake of the program is given back."""
    if isinstance(error, OSError):
        reason = _REASON_OF_ERRNO.get(error.errno or 0, HealthReason.STORE_IO_ERROR)
        return StoreFaultError(reason, f"{path}: {error.strerror}")
    code: int | None = getattr(error, "sqlite_errorcode", None)
    # Without a code: a garbled length that SQLite tried to make room for, a garbled name in one of its
    # messages, a column that holds no text; or a mistake of the program.
    unnamed = code is None and isinstance(error, MemoryError | UnicodeDecodeError | sqlite3.OperationalError)
    if unnamed or (code is not None and code & _PRIMARY_CODE in _DAMAGE_CODES):
        return StoreDamagedError(f"{path}: {type(error).__name__}: {error}")
    if code is None or code & _PRIMARY_CODE not in _REASON_OF_CODE:
        return error
    return StoreFaultError(
        _REASON_OF_CODE[code & _PRIMARY_CODE],
        f"{path}: {error} ({getattr(error, 'sqlite_errorname', '')})",
        in_doubt=code & _PRIMARY_CODE == sqlite3.SQLITE_IOERR,
        unreadable=code in _READ_CODES,
    )
