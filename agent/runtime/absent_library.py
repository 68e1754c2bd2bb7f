"""Importing a library as if another one, which it would use when it is there, were not installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def absent(name: str) -> Iterator[None]:
    """While this lasts, `import name` fails with ImportError, unless it was imported before.

    python-can, and with it cantools, loads asammdf for its MF4 log reader wherever that is installed: 66 MB
    and 0.8 s that the daemon has no use for.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # documented: None makes the import fail
    try:
        yield
    finally:
        del sys.modules[name]
