"""Importing a library that another one names and hardly ever uses, only once it is used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def spared(name: str, **answers: Any) -> Iterator[None]:
    """While this lasts, `import name` gives a stand-in, unless the library was imported before.

    The stand-in has `answers`; whatever else it is asked for, also later, it takes from the library itself,
    which is loaded then. (importlib's LazyLoader would load at the second import statement.)
    """
    if name in sys.modules:
        yield
        return
    parent, _, child = name.rpartition(".")
    stand_in = _StandIn(name, answers)
    sys.modules[name] = stand_in
    setattr(importlib.import_module(parent), child, stand_in)
    try:
        yield
    finally:
        stand_in.step_aside()


def without_plugins() -> AbstractContextManager[None]:
    """While this lasts, libraries that look among the installed packages for plugins of theirs find none.

    A vehicle has none. The search reads the metadata of every package, with the modules for mail, CSV and ZIP
    files that this takes: 0.8 MiB.
    """
    return spared(
        "importlib.metadata",
        entry_points=lambda **_: (),
        version=lambda _: "unknown",
        PackageNotFoundError=LookupError,
    )


class _StandIn(ModuleType):
    def __init__(self, name: str, answers: dict[str, Any]) -> None:
        super().__init__(name)
        self.__dict__.update(answers)

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)  # the import system's own questions
        self.step_aside()
        return getattr(importlib.import_module(self.__name__), attribute)

    def step_aside(self) -> None:
        """The next import is of the library itself."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
