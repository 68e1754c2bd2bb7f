"""mdt status and mdt outbox: quick, harmless, and plain about a configuration that is no good."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli import daemon_reports
from agent.cli.exit_code import ExitCode
from agent.config import Config
from agent.supervision.daemon_answer import DEFAULT_SOCKET


def test_the_default_socket_is_the_configurations() -> None:
    assert Config.model_fields["status_socket"].default == DEFAULT_SOCKET


def test_asking_needs_neither_the_models_nor_a_loop() -> None:
    # On a Pi whose agent has the computer's time these two take seconds to load.
    code = (
        "import sys; from agent.cli.main import main; main(['status', '--socket', '/nowhere/mdt.sock']);"
        "print(sorted(set(sys.modules) & {'pydantic', 'asyncio'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert "the agent does not answer" in done.stderr


@pytest.mark.parametrize(
    ("text", "socket"),
    [("", DEFAULT_SOCKET), ('status_socket = "run/a.sock"\n', Path("run/a.sock"))],
)
def test_the_socket_is_where_the_configuration_says(
    text: str, socket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(text)
    asked: list[Path] = []

    def note(path: Path, name: str) -> dict[str, int]:
        asked.append(path)
        return {name: 1}

    monkeypatch.setattr(daemon_reports, "ask", note)
    assert daemon_reports.status(None, config, as_json=False) == ExitCode.OK
    assert asked == [tmp_path.resolve() / socket]


@pytest.mark.parametrize("text", ["status_socket = 5\n", "status_socket = \n"])
def test_a_configuration_that_is_no_good_is_told_as_such(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(text)
    assert daemon_reports.status(None, config, as_json=False) == ExitCode.BAD_CONFIG
    assert str(config) in capsys.readouterr().err


def test_what_the_daemon_says_can_not_move_the_cursor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "x\x1b[2J\n\u202eunit"
    monkeypatch.setattr(
        daemon_reports, "ask", lambda *_: {hostile: [hostile, {"a": hostile}], "b": {"c": hostile}}
    )
    for as_json in (False, True):
        assert daemon_reports.status(tmp_path / "s", tmp_path, as_json=as_json) == ExitCode.OK
        assert all(line.isprintable() for line in capsys.readouterr().out.split("\n"))


def test_no_answer_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert daemon_reports.outbox(tmp_path / "mdt.sock", tmp_path, as_json=False) == ExitCode.UNAVAILABLE
    assert "the agent does not answer" in capsys.readouterr().err
