"""The page of the configuration is what the models say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.app.devices import KINDS, DeviceKind
from agent.config import SampleDevice
from hil.config_reference import PAGE, MissingSentenceError, reference


class Untold(SampleDevice):
    """A device with a key that nothing is said of."""

    kind: str = "untold"
    name: str = "untold"
    secretive: int = 5


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: python -m hil.config_reference"


def test_each_kind_of_device_has_its_chapter() -> None:
    chapters = re.findall(r'^### kind = "(.*)"$', reference(), re.MULTILINE)
    assert chapters == sorted(KINDS)


def test_a_key_without_a_sentence_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "untold", DeviceKind(__name__, "Untold", "Untold"))
    with pytest.raises(MissingSentenceError, match=r"Untold\.secretive"):
        reference()


def test_the_example_shows_no_key_that_there_is_not(checkout: Path) -> None:
    text = (checkout / "config" / "agent.toml").read_text(encoding="utf-8")
    keys = set(re.findall(r"^(?:# )?([a-z_]+) = ", text, re.MULTILINE))
    page = reference()
    assert keys > {"unit", "kind", "host"}
    assert [key for key in sorted(keys - {"kind", "b1"}) if f"| `{key}` |" not in page] == []
