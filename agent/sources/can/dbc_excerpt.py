"""The messages of a DBC that are wanted, each as a small DBC of its own.

Vehicle makers' files describe thousands of signals; reading all of one costs half a second and 20 MB, and one
line that a reader can not stand, in a message nobody asked for, makes the whole file useless. So the
statements that matter are picked out of the text first, and what is faulty is known by its own line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_KEYWORDS = (
    "VERSION", "NS_DESC_", "NS_", "BS_", "BU_", "BU_SG_REL_", "BU_EV_REL_", "BU_BO_REL_", "BO_TX_BU_",
    "BO_", "SG_MUL_VAL_", "SG_", "EV_DATA_", "EV_", "ENVVAR_DATA_", "SGTYPE_VAL_", "SGTYPE_",
    "SIGTYPE_VALTYPE_", "SIG_TYPE_REF_", "SIG_GROUP_", "SIG_VALTYPE_", "VAL_TABLE_", "VAL_", "CM_",
    "CAT_DEF_", "CAT_", "FILTER", "BA_DEF_DEF_REL_", "BA_DEF_DEF_", "BA_DEF_SGTYPE_", "BA_DEF_REL_",
    "BA_DEF_", "BA_SGTYPE_", "BA_REL_", "BA_",
)  # fmt: skip
_KEYWORD = re.compile(rf"\s*({'|'.join(_KEYWORDS)})(?=[\s:\"]|$)")
_LINE_END = re.compile(r"\r\n|\n|\r")
_MARK = re.compile(r'\\.|"|;', re.DOTALL)
_NUMBER = r"\s*[-+0-9.eE]+\s*"
# No message has as many bytes as five digits tell; who believes more of them counts bits for minutes.
_MESSAGE = re.compile(r"\s*BO_\s+(?P<id>\d+)\s+(?P<name>\w+)\s*:\s*\d{1,5}\s+\S")
_SIGNAL = re.compile(
    rf"\s*SG_\s+(?P<name>\w+)\s*(?P<multiplex>M|m\d+M?)?\s*:\s*\d{{1,5}}\s*\|\s*\d{{1,5}}\s*@\s*[01]\s*[-+]\s*"
    rf"\({_NUMBER},{_NUMBER}\)\s*\[{_NUMBER}\|{_NUMBER}\]\s*\"[^\"]*\"",
)
_SIGNAL_NAME = re.compile(r"\s*SG_\s+(?P<name>\w+)\s*(?P<multiplex>M|m\d+M?)?")
_ABOUT_SIGNAL = re.compile(r"\s*(?:VAL_|SIG_VALTYPE_|SG_MUL_VAL_)\s+(?P<id>\d+)\s+(?P<name>\w+)")
_LONG_NAME = re.compile(
    r'\s*BA_\s+"System(?:Message|Signal)LongSymbol"\s+(?:BO_|SG_)\s+(?P<id>\d+)\s*(?P<name>\w+)?\s*"(?P<long>\w+)"'
)
_ENDS_WITH_SEMICOLON = frozenset(_KEYWORDS) - {
    "VERSION",
    "NS_DESC_",
    "NS_",
    "BS_",
    "BU_",
    "BO_",
    "SG_",
    "FILTER",
}
_ONE_LINE = ("BO_", "SG_")
_MAX_UNCLOSED = 20
_SHOWN = 60


@dataclass(slots=True)
class Statement:
    """A statement as the file has it.

    Attributes:
        keyword: its first word; empty for text that is none.
        line: number of its first line, from 1.
        text: all of it, without its semicolon.
        is_ended: True when the semicolon was there.
    """

    keyword: str
    line: int
    text: str = ""
    is_ended: bool = False


@dataclass(slots=True)
class DbcSignal:
    """A signal of a message; `long_name` is what tools say that allow more than 32 letters."""

    name: str
    is_multiplexer: bool
    statement: Statement
    long_name: str | None = None
    about: list[Statement] = field(default_factory=list)

    def names(self) -> Iterator[str]:
        """The names it can be asked for by."""
        yield self.name
        if self.long_name is not None and self.long_name != self.name:
            yield self.long_name


@dataclass(slots=True)
class DbcMessage:
    """A message with its signals in the order of the file."""

    name: str
    statement: Statement
    signals: list[DbcSignal] = field(default_factory=list)
    long_name: str | None = None

    def names(self) -> Iterator[str]:
        """The names it can be asked for by."""
        yield self.name
        if self.long_name is not None and self.long_name != self.name:
            yield self.long_name

    @property
    def frame_id(self) -> int | None:
        """The identifier as the file has it, with bit 31 set for 29 bits; None when it is not understood."""
        found = _MESSAGE.match(self.statement.text)
        return None if found is None else int(found["id"])

    def signal(self, name: str) -> DbcSignal | None:
        """The signal of that short or long name."""
        return next((one for one in self.signals if name in one.names()), None)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A DBC of one message.

    Attributes:
        text: the DBC.
        lines: of each of its lines, the line of the file that it comes from; 0 for none.
    """

    text: str
    lines: tuple[int, ...]


@dataclass(slots=True)
class Dbc:
    """What was found in a file.

    Attributes:
        messages: in the order of the file.
        remarks: (line, sentence) of what is faulty; it matters only to what it stands in.
    """

    messages: list[DbcMessage] = field(default_factory=list)
    remarks: list[tuple[int, str]] = field(default_factory=list)

    def named(self, name: str) -> list[DbcMessage]:
        """The messages of a short or long name, which may be several."""
        return [message for message in self.messages if name in message.names()]

    def excerpt(self, message: DbcMessage, wanted: Iterable[str]) -> Excerpt:
        """One message with the wanted signals, its multiplexers, their value tables and number formats."""
        names = set(wanted)
        signals = [one for one in message.signals if one.is_multiplexer or names & set(one.names())]
        parts = [Statement("", 0, 'VERSION ""'), Statement("", 0, "BU_:"), message.statement]
        parts += [signal.statement for signal in signals]
        about = [one for signal in signals for one in signal.about]
        text: list[str] = []
        lines: list[int] = []
        for part in parts + about:
            own = _LINE_END.split(part.text)
            text += own
            lines += [part.line and part.line + offset for offset in range(len(own))]
            if part in about:
                text[-1] += ";"
        return Excerpt("\n".join(text) + "\n", tuple(lines))


def read_dbc(path: Path) -> Dbc:
    """The messages of a DBC: UTF-8 if it is that, else Windows Latin 1, which the format's own tools write.

    Raises OSError.
    """
    raw = path.read_bytes()
    try:
        return parse_dbc(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return parse_dbc(raw.decode("cp1252", errors="replace"))


def parse_dbc(text: str) -> Dbc:
    """The messages in the text of a DBC. Never raises: what is not understood is a remark."""
    dbc = Dbc()
    about: list[Statement] = []
    for statement in _statements(text, dbc.remarks):
        match statement.keyword:
            case "BO_":
                _take_message(dbc, statement)
            case "SG_":
                _take_signal(dbc, statement)
            case "VAL_" | "SIG_VALTYPE_" | "SG_MUL_VAL_" | "BA_":
                about.append(statement)
            case "":
                dbc.remarks.append((statement.line, f"not a statement of a DBC: {_shown(statement)}"))
        if statement.keyword in _ENDS_WITH_SEMICOLON and not statement.is_ended and _has_content(statement):
            dbc.remarks.append((statement.line, f"the semicolon at the end is missing: {_shown(statement)}"))
    _take_about(dbc, about)
    dbc.remarks.sort()
    return dbc


def _take_message(dbc: Dbc, statement: Statement) -> None:
    found = _MESSAGE.match(statement.text)
    if found is None:
        dbc.remarks.append((statement.line, f"a message that is not understood: {_shown(statement)}"))
        # What stands below it must not be taken for signals of the message before.
        dbc.messages.append(DbcMessage("", statement))
        return
    dbc.messages.append(DbcMessage(found["name"], statement))


def _take_signal(dbc: Dbc, statement: Statement) -> None:
    name = _SIGNAL_NAME.match(statement.text)
    if _SIGNAL.match(statement.text) is None:
        dbc.remarks.append((statement.line, f"a signal that is not understood: {_shown(statement)}"))
    if not dbc.messages:
        dbc.remarks.append((statement.line, f"a signal without a message: {_shown(statement)}"))
    elif name is not None:
        is_multiplexer = (name["multiplex"] or "").endswith("M")
        dbc.messages[-1].signals.append(DbcSignal(name["name"], is_multiplexer, statement))


def _take_about(dbc: Dbc, statements: list[Statement]) -> None:
    by_id: dict[str, DbcMessage] = {}
    for message in dbc.messages:
        found = _MESSAGE.match(message.statement.text)
        if found is not None:
            if found["id"] in by_id:
                first = by_id[found["id"]].statement.line
                dbc.remarks.append(
                    (message.statement.line, f"the identifier of {message.name} stands in line {first}, too")
                )
            by_id.setdefault(found["id"], message)
    for statement in statements:
        is_name = statement.keyword == "BA_"
        found = (_LONG_NAME if is_name else _ABOUT_SIGNAL).match(statement.text)
        message_about = None if found is None else by_id.get(found["id"])
        if found is None or message_about is None:
            continue
        signal = next((one for one in message_about.signals if one.name == found["name"]), None)
        if not is_name:
            if signal is not None:
                signal.about.append(statement)
        elif found["name"] is None:
            message_about.long_name = found["long"]
        elif signal is not None:
            signal.long_name = found["long"]


def _statements(text: str, remarks: list[tuple[int, str]]) -> list[Statement]:
    """Cut into statements.

    One ends with its semicolon, and at the latest where a line outside of quotes begins with a keyword. When
    the quotes of the file do not match, those that hide the beginning of another statement are closed where
    their line ends.
    """
    lines = _LINE_END.split(text)
    closed: set[int] = set()
    while True:
        cutter = _Cutter(closed)
        for number, line in enumerate(lines, 1):
            cutter.take(number, line)
        if not cutter.quote_line or len(closed) >= _MAX_UNCLOSED:
            break
        closed.add(cutter.suspect_line or cutter.quote_line)
    remarks += [(line, "quotes are opened here and not closed") for line in sorted(closed)]
    return cutter.statements


class _Cutter:
    """Takes a file line by line.

    Attributes:
        quote_line: where the quotes that are open now were opened; 0 outside of quotes.
        suspect_line: where the first quotes were opened that a line beginning with a keyword stands in.
    """

    def __init__(self, closed: set[int]) -> None:
        self.statements: list[Statement] = []
        self.quote_line = 0
        self.suspect_line = 0
        self._closed = closed

    def take(self, number: int, line: str) -> None:
        keyword = _KEYWORD.match(line)
        if self.quote_line:
            if keyword is not None:
                self.suspect_line = self.suspect_line or self.quote_line
        elif keyword is not None:
            self.statements.append(Statement(keyword[1], number))
        elif not line.strip():
            return
        elif (
            not self.statements
            or self.statements[-1].is_ended
            or self.statements[-1].keyword in ("BO_", "SG_")
        ):
            self.statements.append(Statement("", number))
        self._scan(number, line)
        if self.quote_line in self._closed:
            self.statements[-1].text += '"'
            self.quote_line = 0

    def _scan(self, number: int, line: str) -> None:
        statement = self.statements[-1]
        begin = 0
        for mark in _MARK.finditer(line):
            if mark[0] == '"':
                self.quote_line = 0 if self.quote_line else number
            elif mark[0] == ";" and not self.quote_line and statement.keyword not in _ONE_LINE:
                _append(statement, line[begin : mark.start()], number)
                statement.is_ended = True
                begin = mark.end()
                rest = line[begin:]
                if rest.strip():
                    keyword = _KEYWORD.match(rest)
                    statement = Statement(keyword[1] if keyword else "", number)
                    self.statements.append(statement)
        if not statement.is_ended or line[begin:].strip():
            _append(statement, line[begin:], number)


def _append(statement: Statement, text: str, number: int) -> None:
    statement.text += text if statement.line == number else "\n" + text


def _has_content(statement: Statement) -> bool:
    # The list below NS_ has each keyword alone on a line.
    return statement.text.strip() not in (statement.keyword, f"{statement.keyword}:")


def _shown(statement: Statement) -> str:
    text = " ".join(statement.text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
