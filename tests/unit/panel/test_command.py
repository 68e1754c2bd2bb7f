"""What the page's server reads and writes before it serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config.panel import load_panel
from agent.panel.command import BAD_CONFIGURATION, main, token_in


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


def test_a_token_is_drawn_once_and_kept_for_the_user_and_group_alone(tmp_path: Path) -> None:
    path = tmp_path / "run" / "token"
    token = token_in(path)
    assert path.read_text(encoding="utf-8") == token + "\n"
    assert path.stat().st_mode & 0o777 & ~0o640 == 0
    # A page that is open goes on with it when its server is started again.
    assert token_in(path) == token
    path.unlink()
    assert token_in(path) != token


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff" * 32, b"a" * 31 + b" ", b"a" * 33, b"../" * 11])
def test_what_is_no_token_is_drawn_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    token = token_in(path)
    assert len(token) == 32
    assert path.read_text(encoding="utf-8").strip() == token


def test_a_token_file_that_leads_elsewhere_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").write_text("a" * 32, encoding="utf-8")
    (tmp_path / "token").symlink_to(tmp_path / "elsewhere")
    file = tmp_path / "agent.toml"
    file.write_text('[panel]\ntoken_file = "token"\n', encoding="utf-8")
    assert main(["--config", str(file)]) == BAD_CONFIGURATION
    assert "token" in capsys.readouterr().err


def test_the_address_is_printed_for_a_kiosk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('[panel]\nport = 9000\ntoken_file = "token"\n', encoding="utf-8")
    assert main(["--config", str(file), "--address"]) == 0
    assert capsys.readouterr().out == f"http://127.0.0.1:9000/?token={token_in(tmp_path / 'token')}\n"
