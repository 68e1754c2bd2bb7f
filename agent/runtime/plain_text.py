"""Text from outside, made harmless before a terminal, a log or a person sees it."""

from __future__ import annotations

import re
import unicodedata

_WORDS_OF_ERROR = 300
"""Characters of an exception's own words that are passed on."""
_CREDENTIALS = re.compile(r"(://)[^/\s\"'<>]*@")


def harmless(text: str, most: int | None = None) -> str:
    """`text` on one line, without anything that moves a cursor, hides or reorders what stands there.

    Control characters, escape sequences, line ends of every alphabet, direction marks, invisible characters
    and lone surrogates are written as Python would write them in a string (backslash, x1b); a backslash stays
    as it is, so this is for reading and not for taking apart again.

    Args:
        text: anything.
        most: characters to keep; what is longer ends with an ellipsis. None keeps all.
    """
    if most is not None and len(text) > most:
        text = text[: max(0, most - 1)] + "…"
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _written(character) for character in text)


def masked(text: str) -> str:
    """`text` with whatever stands between `://` and `@`, where an address may carry a password, left out."""
    return _CREDENTIALS.sub(r"\1***@", text) if "@" in text else text


def counted(number: int, what: str) -> str:
    """A number with its noun: 1 record, 2 records, 2 presses."""
    return f"{number} {what}" if number == 1 else f"{number} {what}{'es' if what.endswith('s') else 's'}"


def how_often(number: int) -> str:
    """How often, in words: never, once, 2 times."""
    return {0: "never", 1: "once"}.get(number, f"{number} times")


def told(error: BaseException) -> str:
    """What an exception says, for a log line or a health detail: its kind and its words, never its `repr`.

    The repr of an exception shows all that it was made with: of a text that is no UTF-8, for one, every byte,
    which may be a password's.
    """
    words = harmless(masked(str(error)), _WORDS_OF_ERROR)
    kind = type(error).__name__
    return f"{kind}: {words}" if words else kind


def _written(character: str) -> str:
    if unicodedata.category(character) == "Zs":
        return " "
    return character.encode("unicode_escape").decode("ascii")
