"""What this computer lacks for the moment: no fault of a part, and of nothing that a person wrote."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
"""None is free for the process, or for the whole computer."""
_PASSING = (*_DESCRIPTORS, errno.ENOMEM, errno.EIO)


def lacks_descriptors(error: BaseException) -> bool:
    """True when a lack of descriptors is what `error` is, or what it was caused by."""
    return any(_has(one, _DESCRIPTORS) for one in _causes(error))


def is_passing(error: BaseException) -> bool:
    """True when `error` comes of descriptors, memory or a disk that the computer may have again later.

    What a person can mend, a file that is absent or not to be read by this user, is none of these.
    """
    return any(isinstance(one, MemoryError) or _has(one, _PASSING) for one in _causes(error))


def _has(error: BaseException, numbers: tuple[int, ...]) -> bool:
    if isinstance(error, OSError):
        return error.errno in numbers
    # The loader of C modules tells it in words alone.
    return isinstance(error, ImportError) and any(os.strerror(number) in str(error) for number in numbers)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    to_look: list[BaseException | None] = [error]
    while to_look:
        one = to_look.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, BaseExceptionGroup):
            to_look += one.exceptions
        to_look.append(one.__cause__)
