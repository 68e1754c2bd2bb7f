"""Stand-ins for libraries: gone when their time is over, and the library itself when it is asked for more."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from agent.runtime.spared_library import spared, without_plugins

PARENT, CHILD = "spared_for_test", "spared_for_test.child"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / PARENT
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "child.py").write_text("answer = 'the library'\nmore = 'more of it'\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in (PARENT, CHILD):
        # So that monkeypatch takes out again what is imported.
        monkeypatch.setitem(sys.modules, name, None)
        del sys.modules[name]


def test_a_stand_in_answers_and_goes(package: None) -> None:
    with spared(CHILD, answer="the stand-in"):
        stand_in = importlib.import_module(CHILD)
        assert stand_in.answer == "the stand-in"
        assert importlib.import_module(PARENT).child is stand_in
    assert CHILD not in sys.modules
    assert importlib.import_module(CHILD).answer == "the library"
    assert importlib.import_module(PARENT).child.answer == "the library"
    assert stand_in.answer == "the stand-in"


@pytest.mark.parametrize("late", [False, True])
def test_whatever_else_is_asked_for_comes_from_the_library(package: None, *, late: bool) -> None:
    with spared(CHILD, answer="the stand-in"):
        stand_in = importlib.import_module(CHILD)
        if not late:
            assert stand_in.more == "more of it"
            assert importlib.import_module(CHILD) is not stand_in
    assert stand_in.more == "more of it"
    assert importlib.import_module(CHILD).answer == "the library"
    with pytest.raises(AttributeError, match="nothing"):
        stand_in.nothing  # noqa: B018  # the access is what is tested


def test_a_library_that_is_there_stays(package: None) -> None:
    library = importlib.import_module(CHILD)
    with spared(CHILD, answer="the stand-in"):
        assert importlib.import_module(CHILD) is library
    assert importlib.import_module(CHILD) is library


def test_nobody_finds_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "importlib.metadata", raising=False)
    with without_plugins():
        metadata = importlib.import_module("importlib.metadata")
        assert list(metadata.entry_points(group="anything")) == []
    assert "importlib.metadata" not in sys.modules
    assert importlib.import_module("importlib.metadata").version("pydantic")
