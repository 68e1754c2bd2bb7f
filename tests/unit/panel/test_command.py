"""What the page's server reads and writes before it serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.panel import load_panel
from agent.panel.command import BAD_CONFIGURATION, fresh_token, main


def test_only_the_panels_table_is_read(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('[unit]\nagency = 3\n[panel]\nport = 9000\nsocket = "p.sock"\n', encoding="utf-8")
    read = load_panel(file)
    assert (read.panel.port, read.socket) == (9000, tmp_path / "p.sock")


def test_without_a_place_the_socket_is_beside_the_status_socket(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('status_socket = "run/mdt.sock"\n', encoding="utf-8")
    assert load_panel(file).socket == tmp_path / "run" / "panel.sock"


def test_a_bad_table_ends_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('[panel]\nlanguage = "tlh"\n', encoding="utf-8")
    assert main(["--config", str(file)]) == BAD_CONFIGURATION
    assert "panel.language" in capsys.readouterr().err


def test_a_token_is_drawn_anew_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "run" / "token"
    first, second = fresh_token(path), fresh_token(path)
    assert first != second
    assert path.read_text(encoding="utf-8").strip() == second
    assert path.stat().st_mode & 0o777 == 0o600
