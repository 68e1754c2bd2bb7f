"""TOML as people write it: plain words for what can not be read, and the line of everything that can."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.toml_text import Place, TomlError, lines_of, parse, read_text

DOCUMENT = '''\
# first
title = "a # b" # c
dotted."quoted.key".x = 1
text = """
[not.a.table]
key = "none"
"""
raw = \'\'\'
]]
\'\'\'
list = [
  1, # one
  { a = 1, b = [2,
    3] },
]

[table]
key = 1
[[several]]
x = 1
[[several]]
  y = 2
  [several.inner]
  z = 3
  [[several.deep]]
  w = 1979-05-27 07:32:00
  [[several.deep]]
["odd \\u00e4 name".'x']
k = true
'''


def test_everything_has_its_line() -> None:
    lines = lines_of(DOCUMENT)
    expected: dict[Place, int] = {
        ("title",): 2,
        ("dotted", "quoted.key", "x"): 3,
        ("text",): 4,
        ("raw",): 8,
        ("list",): 11,
        ("list", 0): 12,
        ("list", 1, "a"): 13,
        ("list", 1, "b", 1): 14,
        ("table",): 17,
        ("table", "key"): 18,
        ("several",): 19,
        ("several", 0): 19,
        ("several", 1): 21,
        ("several", 1, "y"): 22,
        ("several", 1, "inner"): 23,
        ("several", 1, "inner", "z"): 24,
        ("several", 1, "deep", 0, "w"): 26,
        ("several", 1, "deep", 1): 27,
        ("odd ä name", "x", "k"): 29,
    }
    assert {place: lines.get(place) for place in expected} == expected
    assert ("not",) not in lines


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a = 1\nb = hunter2\n", 2, "quotes"),
        ("a = 1\na = 2\n", 2, "given twice"),
        ("[a]\n[a]\n", 2, "given twice"),
        ("a = 'x", 1, "closing quote"),
        ("a\n", 1, "followed by ="),
        ("a = 1 b = 2\n", 1, "more on this line"),
        ("[a\n", 1, "[ ]"),
        ("a = [1,\n", 2, "end of a list"),
        ("a = [1\n", 2, "closing ]"),
        ('a = "x\n', 1, "closing quote"),
        ("a = {b = 1\n", 1, "closing }"),
        ("a = 1\nb = 2020-02-31\n", 2, "date"),
        ('a = "c:\\data"\n', 1, "backslash"),
        ("a = " + "[\n" * 3000 + "]" * 3000, None, "without end"),
        ("a = " + "[" * 30 + "]" * 30, None, "without end"),
        ("a." * 3000 + "b = 1", None, "without end"),
        ("a = " + "9" * 5000, None, "too long"),
    ],
)
def test_what_is_no_toml_is_said_in_plain_words_and_not_repeated(
    text: str, line: int | None, words: str
) -> None:
    with pytest.raises(TomlError) as caught:
        parse(text)
    assert words in caught.value.why
    assert caught.value.line == line
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"a = 1\nb = '\xff'", "line 2: not UTF-8"),
        ("a = 1".encode("utf-16"), "UTF-16"),
        (b"#" * (1 << 20) + b"#", "larger than"),
    ],
)
def test_what_is_no_text_is_said(tmp_path: Path, raw: bytes, words: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(raw)
    with pytest.raises(TomlError, match=words):
        read_text(path)


def test_a_byte_order_mark_is_as_none(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbfa = 1\r\n")
    assert parse(read_text(path)) == {"a": 1}
    assert lines_of(read_text(path)) == {("a",): 1}


PIECES = st.sampled_from(
    [
        *(
            "[",
            "]",
            "[[",
            "]]",
            "{",
            "}",
            "=",
            ".",
            ",",
            "\n",
            "\r\n",
            " ",
            "#",
            '"',
            "'",
            '"""',
            "'''",
            "\\",
        ),
        *("a", "b", "1", "-", "true", "inf", "0x1f", "1979-05-27", "é", "[a]\n", "[[a]]\n", "a = 1\n"),
        *("b = [1, 2]\n", "c = {d = 1}\n", 'e = "f"\n'),
    ]
)


def leaves(value: Any, place: Place = ()) -> list[Place]:
    """The places of all members of a table or list."""
    match value:
        case dict():
            members: list[tuple[Any, Any]] = list(value.items())
        case list():
            members = list(enumerate(value))
        case _:
            return []
    return [found for key, member in members for found in ((*place, key), *leaves(member, (*place, key)))]


def parsed(text: str) -> dict[str, Any] | None:
    """The table; None for what is no TOML."""
    try:
        return parse(text)
    except TomlError:
        return None


@given(st.lists(PIECES, max_size=40).map("".join))
def test_any_text_has_a_line_for_each_member_or_a_sentence(text: str) -> None:
    table = parsed(text)
    if table is None:
        with pytest.raises((ValueError, RecursionError)):
            tomllib.loads(text)
        return
    lines = lines_of(text)
    last = text.count("\n") + 1
    for place in leaves(table):
        # A table that is only implied by the header of one below it has no line of its own.
        assert place in lines or any(deeper[: len(place)] == place for deeper in lines), place
    assert all(1 <= line <= last for line in lines.values())
