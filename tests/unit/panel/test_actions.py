"""The page, the document and the daemon know the same actions: there is one table, the daemon's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from agent.app.crew_parts import CrewParts
from agent.config import Config
from agent.domain.health import HealthBoard
from agent.domain.time_base import TimeBase
from agent.outbox.outbox import Outbox
from hil.sim.inline_worker import InlineWorker
from hil.sim.manual_clock import ManualClock

CHECKOUT = Path(__file__).parents[3]
PAGE = CHECKOUT / "agent" / "panel" / "page"


@pytest.fixture
def actions(tmp_path: Path) -> set[str]:
    """What the daemon takes from a page."""
    config = Config.model_validate(
        {
            "unit": {"agency": "bems", "unit": "A1"},
            "store": {"directory": str(tmp_path)},
            "status_socket": str(tmp_path / "mdt.sock"),
            "uplink": {"brokers": [{"host": "h", "allow_plaintext": True}]},
        }
    )
    clock, health = ManualClock(lambda: 0, boot_id="b" * 32, unix_ms=0), HealthBoard()
    parts = CrewParts(
        config,
        clock,
        TimeBase(),
        health,
        outbox=Outbox(config.store, clock, InlineWorker(), health),
        states=States(),
        connected=lambda: True,
        signals=dict,
        odometer=lambda: None,
        worker=InlineWorker(),
        on_crossing=lambda: None,
    )
    return set(parts.actions())


class States:
    """Nobody looks."""

    def set_state(self, state: Any) -> None:
        """Nobody looks."""


def test_every_action_of_the_page_is_one_of_the_daemons_and_none_is_idle(actions: set[str]) -> None:
    asked = set(re.findall(r'do: "([a-z_]+)"', (PAGE / "panel.js").read_text(encoding="utf-8")))
    assert asked == actions


def test_the_document_names_every_action(actions: set[str]) -> None:
    text = (CHECKOUT / "docs" / "panel.md").read_text(encoding="utf-8")
    table = text.split("| `do` | with | |")[1].split("\n\n")[0]
    named = {
        name
        for row in table.splitlines()
        for name in re.findall(r"`([a-z_]+)`", row.split("|")[1:2][0] if "|" in row else "")
    }
    assert named == actions | {"keep_recording"}  # with an [impact] table the daemon takes this, too


def test_every_word_of_the_page_stands_in_each_language() -> None:
    import json

    words = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in PAGE.glob("words.*.json")}
    english = words["words.en.json"].keys()
    assert all(one.keys() == english for one in words.values())
    page = (PAGE / "panel.js").read_text(encoding="utf-8") + (PAGE / "index.html").read_text(encoding="utf-8")
    used = set(re.findall(r'\bw\("([a-z_]+)"\)', page)) | set(re.findall(r'data-w="([a-z_]+)"', page))
    assert used <= english
