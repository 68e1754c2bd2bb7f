"""The messages of a DBC that are wanted, each as a small DBC of its own.

Vehicle makers' files describe thousands of signals; reading all of one costs half a second and 20 MB, and one
line that a reader can not stand, in a message nobody asked for, makes the whole file useless. So the lines
that matter are picked out of the text first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_COMMENT = re.compile(r'^\s*CM_\s[^"]*"(?:[^"\\]|\\.)*"\s*;', re.MULTILINE)
_MESSAGE = re.compile(
    r"^[ \t]*BO_\s+(?P<id>\d+)\s+(?P<name>\w+)\s*:.*\n(?P<signals>(?:[ \t]*(?:SG_\s.*)?\r?\n)*)", re.MULTILINE
)
_SIGNAL = re.compile(r"^[ \t]*SG_\s+(?P<name>\w+)\s*(?P<multiplex>M|m\d+M?)?\s*:.*$", re.MULTILINE)
_ABOUT_SIGNAL = re.compile(
    r'^[ \t]*(?:VAL_|SIG_VALTYPE_|SG_MUL_VAL_)\s+(?P<id>\d+)\s+(?P<name>\w+)(?:[^";]|"[^"]*")*;', re.MULTILINE
)


def read_dbc(path: Path) -> str:
    """The text of a DBC: UTF-8 if it is that, else Windows Latin 1, which the format's own tools write.

    Raises OSError.
    """
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def excerpts(text: str, wanted: Mapping[str, set[str]]) -> Iterator[tuple[str, str]]:
    """(message name, DBC) of every message of a name in `wanted`, which may be several.

    Each DBC has one message with the wanted signals, their multiplexers, value tables and number formats.
    Names that the text does not have are left out.
    """
    text = _COMMENT.sub("", text) + "\n"
    about: dict[tuple[str, str], list[str]] = {}
    for line in _ABOUT_SIGNAL.finditer(text):
        about.setdefault((line["id"], line["name"]), []).append(line[0])
    for message in _MESSAGE.finditer(text):
        names = wanted.get(message["name"])
        if names is None:
            continue
        signals = [
            signal
            for signal in _SIGNAL.finditer(message["signals"])
            if signal["name"] in names or (signal["multiplex"] or "").endswith("M")
        ]
        parts = ['VERSION ""', "BU_:", "", message[0].splitlines()[0], *(signal[0] for signal in signals), ""]
        for signal in signals:
            parts += about.get((message["id"], signal["name"]), [])
        yield message["name"], "\n".join(parts) + "\n"


def names(text: str) -> dict[str, list[str]]:
    """The names of all messages of a DBC, each with those of its signals."""
    found: dict[str, list[str]] = {}
    for message in _MESSAGE.finditer(_COMMENT.sub("", text) + "\n"):
        signals = (signal["name"] for signal in _SIGNAL.finditer(message["signals"]))
        found.setdefault(message["name"], []).extend(signals)
    return found
