"""What is told of a field besides its name and type: one line of the contract's table of fields.

A record body or a state is a dataclass whose fields are written `name: Annotated[type, Field("sentence.")]`.
Both forms on the wire, their checks, the JSON Schemas and the tables in docs/wire-format.md are made from
that line alone. A field that comes later stands last, may be None, and says since which revision it is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

TEXT_BYTES = 64
ITEMS = 32


@dataclass(frozen=True, slots=True)
class Field:
    """The row of a field.

    Attributes:
        sentence: what it says, for the document.
        unit: unit of the value as it is in Python and in JSON; empty when it has none.
        scale: the msgpack form holds the value times this as a whole number; 0 for the value itself.
        wrap: the scaled number is taken modulo this, so that 359.96 degrees are 0 and not 360; 0 for not.
        most: most bytes of a text, in UTF-8; what is longer is cut and ends with an ellipsis.
        items: most elements of a list or map; of a longer list the last one kept is an ellipsis.
        tokens: the tokens it may hold. A reader takes others for what they are: tokens of a later revision.
        since: revision of the contract that brought it: 1 is the first, a release that adds fields gives them
            the next. Readers need not know it.
    """

    sentence: str
    unit: str = ""
    scale: float = 0
    wrap: int = 0
    most: int = TEXT_BYTES
    items: int = ITEMS
    tokens: type[Token] | None = None
    since: int = 1


class Token(StrEnum):
    """A word on the wire with the sentence that explains it."""

    sentence: str

    def __new__(cls, word: str, sentence: str = "") -> Self:
        """Make a member. Raises TypeError for a row without its sentence."""
        if not sentence:
            raise TypeError(f'{cls.__name__} {word!r}: write NAME = "{word}", "What it says."')
        one = str.__new__(cls, word)
        one._value_ = word
        one.sentence = sentence
        return one
