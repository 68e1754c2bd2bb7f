"""The edge between a command and its reader."""

from __future__ import annotations

import errno
import io
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.exit_code import ExitCode
from agent.cli.terminal import INTERRUPTED, PlainStream, at_the_edge


@given(st.lists(st.text(st.characters(), max_size=20)))
def test_a_plain_stream_passes_lines_and_tabs_and_nothing_else_that_acts(parts: list[str]) -> None:
    out = io.StringIO()
    stream = PlainStream(out)
    for part in parts:
        assert stream.write(part) == len(part)
    said = out.getvalue()
    assert all(cell.isprintable() for line in said.split("\n") for cell in line.split("\t"))
    assert said.count("\n") == sum(part.count("\n") for part in parts)


def test_what_a_command_prints_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        print("a\x1b[2J", "b\u202e")
        print("c\x9b", file=sys.stderr)
        return 3

    assert at_the_edge(command) == 3
    assert capsys.readouterr() == ("a\\x1b[2J b\\u202e\n", "c\\x9b\n")


def test_a_command_that_draws_keeps_its_own_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        print("\x1b[1mbold\x1b[0m")
        return 0

    assert at_the_edge(command, draws=True) == 0
    assert capsys.readouterr().out == "\x1b[1mbold\x1b[0m\n"


def test_ctrl_c_ends_a_command_without_a_word() -> None:
    def command() -> int:
        raise KeyboardInterrupt

    assert at_the_edge(command) == INTERRUPTED


@pytest.mark.parametrize("lines", [1, 10_000])
def test_a_reader_that_has_seen_enough_is_no_fault(lines: int) -> None:
    program = (
        "import sys; from agent.cli.terminal import at_the_edge\n"
        f"sys.exit(at_the_edge(lambda: print('line\\n' * {lines}) or 0))"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    assert writer.stdout is not None
    writer.stdout.close()
    _, complaint = writer.communicate(timeout=50)
    assert (writer.returncode, complaint) == (0, b"")


def test_what_the_computer_lacks_is_one_sentence_and_a_defect_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def lacks() -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    def fails() -> int:
        raise OSError(errno.ENOENT, "No such file or directory")

    assert at_the_edge(lacks) == ExitCode.UNAVAILABLE
    assert "can not do it at the moment: OSError: [Errno 24] Too many open files" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError):
        at_the_edge(fails)
