"""How a mistake in a file is shown to the person who made it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent.runtime.plain_text import harmless, masked

SHOWN_LETTERS = 60


def did_you_mean(written: Any, known: Sequence[str]) -> str:
    """The hint "; did you mean x?" when something that is known looks like what is written, else ""."""
    if not isinstance(written, str) or len(written) > SHOWN_LETTERS:
        return ""
    from difflib import get_close_matches  # here, so that a daemon whose file is right does not pay for it

    folded = {name.lower(): name for name in known}
    near = get_close_matches(written.lower(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[near[0]]}?" if near else ""


def shown(value: Any) -> str:
    """A value as the file would write it, short and harmless to a terminal."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() if abs(value) >= 10**SHOWN_LETTERS:
            return f"a number of {value.bit_length()} bits"
        case int() | float():
            return str(value)
        case str():
            # An address may carry a password before its @.
            value = masked(value)
            return harmless(repr(value if len(value) <= SHOWN_LETTERS else value[:SHOWN_LETTERS] + "..."))
        case list():
            return "[...]" if value else "[]"
        case _:
            return "..."
