"""TOML as people write it: what can not be read, in plain words, and on which line everything stands."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

Place = tuple[str | int, ...]
"""Keys and positions that lead to a value, e.g. ("device", 0, "baud")."""

MAX_BYTES = 1 << 20
"""Far more than any file that a person wrote."""
MAX_DEPTH = 20
"""Tables in tables; no file needs more than four."""

_PLAIN = (
    ("Cannot declare", "this table is given twice, or once with [ ] and once with [[ ]]"),
    ("Cannot redefine", "this table is given twice, or once with [ ] and once with [[ ]]"),
    ("Cannot mutate immutable", "this adds to what is complete already: a table in { }, a list in [ ]"),
    ("Cannot overwrite", "this key or table is given twice"),
    ("Expected '=' after a key", "a key is followed by = and its value"),
    ("Expected newline", "there is more on this line than one key and its value"),
    ("Invalid value (at end of document)", "the file ends where a value or the end of a list is expected"),
    ("Invalid value", "the value is not understood; text stands in quotes, yes and no are true and false"),
    ("Unterminated string", "the text has no closing quotes"),
    ("Expected \"'", "the text has no closing quote"),
    ("Illegal character '\\n'", "the text has no closing quote on its line"),
    ("Unclosed array", "the list has no closing ]"),
    ("Unclosed inline table", "the table has no closing }"),
    ("Expected ']' at the end of a table", "the name of a table stands in [ ]"),
    ("Expected ']]' at the end", "the name of a table of several stands in [[ ]]"),
    ("Invalid initial character for a key", "a key is expected here: letters, digits, _ and -"),
    ("Invalid statement", "a key or the name of a table is expected here"),
    ("Duplicate inline table key", "a key is given twice in this table"),
    ("Unescaped '\\'", "a backslash in quotes is written \\\\, or the text stands in single quotes"),
    ("Invalid hex value", "a \\u is followed by four hexadecimal digits"),
    ("Escaped character is not a Unicode", "there is no such character"),
    ("Found invalid character", "a character that must not stand here, perhaps an invisible one"),
    ("Illegal character", "a character that must not stand here, perhaps an invisible one"),
    ("Invalid date", "there is no such date or time"),
)
"""Beginnings of what tomllib says, and the same for who writes the file."""


class TomlError(ValueError):
    """The text is no TOML.

    Attributes:
        line: where, counted from 1; None when it is nowhere in particular.
        why: one plain sentence; never the text itself, which may be a secret.
    """

    def __init__(self, why: str, line: int | None = None) -> None:
        super().__init__(why if line is None else f"line {line}: {why}")
        self.line = line
        self.why = why


def read_text(path: Path) -> str:
    """The text of a file that a person wrote; a byte order mark in front is as none.

    Raises:
        OSError: it can not be read.
        TomlError: it is no text.
    """
    with path.open("rb") as stream:
        raw = stream.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise TomlError(f"larger than {MAX_BYTES // 1024} KiB: not a file of this kind")
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise TomlError("saved as UTF-16; save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise TomlError("not UTF-8; save the file as UTF-8", line) from None


def parse(text: str) -> dict[str, Any]:
    """The table that a TOML text is. Raises TomlError."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _plain(str(error), text) from None
    except RecursionError:
        raise TomlError("tables or lists in one another without end") from None
    except ValueError:
        # What Python refuses behind the parser's back: numbers of thousands of digits.
        raise TomlError("a number far too long") from None
    if _depth(table) > MAX_DEPTH:
        raise TomlError("tables or lists in one another without end")
    return table


def lines_of(text: str) -> dict[Place, int]:
    """The line of each table, key and member of a list of a text that `parse` could read."""
    return _Lines(text).found


def _plain(message: str, text: str) -> TomlError:
    where = re.search(r"at line (\d+)", message)
    line = int(where.group(1)) if where else text.count("\n") + 1
    for beginning, words in _PLAIN:
        if message.startswith(beginning):
            return TomlError(words, line)
    return TomlError("not understood", line)


def _depth(value: Any) -> int:
    """How deep tables and lists stand in one another; stops counting beyond the limit."""
    depth, layer = 0, [value]
    while layer and depth <= MAX_DEPTH:
        depth += 1
        layer = [
            member
            for one in layer
            for member in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
        ]
    return depth


class _Lines:
    """Walks once over a text that is known to be TOML, and notes where everything stands."""

    _KEY = re.compile(r"""[ \t]*(?:"((?:[^"\\\n]|\\.)*)"|'([^'\n]*)'|([A-Za-z0-9_-]+))[ \t]*""")
    _TEXT = re.compile(
        r'"""(?:[^\\]|\\.)*?"{3,5}|' + r"'''.*?'{3,5}" + r'|"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'", re.DOTALL
    )
    _BARE = re.compile(r"[^,\]}\n#]*")
    _BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")

    def __init__(self, text: str) -> None:
        self.found: dict[Place, int] = {}
        self._text = text
        self._at = 0
        self._line = 1
        self._line_at = 0
        self._several: dict[Place, int] = {}
        here: Place = ()
        self._skip_blank()
        while self._at < len(text):
            if text[self._at] == "[":
                here = self._header()
            else:
                self._pair(here)
            self._skip_blank()

    def _skip_blank(self) -> None:
        match = self._BLANK.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _note(self, place: Place) -> None:
        self._line += self._text.count("\n", self._line_at, self._at)
        self._line_at = self._at
        self.found.setdefault(place, self._line)

    def _keys(self) -> tuple[str, ...]:
        """A key, perhaps with dots."""
        keys: list[str] = []
        while match := self._KEY.match(self._text, self._at):
            double, single, bare = match.groups()
            # A key in quotes may be written with escapes: the parser knows them all.
            keys.append(bare or single or ("" if double is None else next(iter(parse(f'"{double}" = 1')))))
            self._at = match.end()
            if not self._text.startswith(".", self._at):
                break
            self._at += 1
        return tuple(keys)

    def _header(self) -> Place:
        start = self._at
        is_of_several = self._text.startswith("[[", start)
        self._at += 2 if is_of_several else 1
        keys = self._keys()
        place: Place = ()
        for key in keys[:-1]:
            place = self._resolve((*place, key))
        place = (*place, *keys[-1:])
        if is_of_several:
            self._several[place] = self._several.get(place, -1) + 1
        self._at = start
        self._note(place)
        place = self._resolve(place)
        self._note(place)
        end = self._text.find("\n", start)
        self._at = len(self._text) if end < 0 else end
        return place

    def _resolve(self, place: Place) -> Place:
        return (*place, self._several[place]) if place in self._several else place

    def _pair(self, here: Place) -> None:
        start = self._at
        keys = self._keys()
        if self._at == start:  # not TOML after all: never turn in a circle
            self._at = len(self._text)
            return
        end, self._at = self._at, start
        for count in range(1, len(keys) + 1):
            self._note((*here, *keys[:count]))
        self._at = end + 1  # behind the =
        self._value((*here, *keys))

    def _value(self, place: Place) -> None:
        self._skip_blank()
        first = self._text[self._at : self._at + 1]
        if first == "[":
            self._members(place)
        elif first == "{":
            self._inline_table(place)
        else:
            match = self._TEXT.match(self._text, self._at) or self._BARE.match(self._text, self._at)
            self._at = match.end() if match else self._at

    def _members(self, place: Place) -> None:
        self._at += 1
        count = 0
        while self._at < len(self._text):
            self._skip_blank()
            before = self._at
            match self._text[self._at : self._at + 1]:
                case "]":
                    self._at += 1
                    return
                case ",":
                    self._at += 1
                    count += 1
                case _:
                    self._note((*place, count))
                    self._value((*place, count))
            if self._at == before:
                return

    def _inline_table(self, place: Place) -> None:
        self._at += 1
        while self._at < len(self._text):
            self._skip_blank()
            before = self._at
            match self._text[self._at : self._at + 1]:
                case "}":
                    self._at += 1
                    return
                case ",":
                    self._at += 1
                case _:
                    self._pair(place)
            if self._at == before:
                return
