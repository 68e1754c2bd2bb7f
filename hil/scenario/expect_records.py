"""Expectations on records of any kind, by what their bodies hold."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from agent.config.plain_words import did_you_mean
from agent.domain.record import KIND_OF_TOKEN
from agent.runtime.plain_text import counted
from hil.scenario.expectation import Expectation, Verdict
from hil.scenario.observation import Observation


class Records(Expectation):
    """Of the records of kind `of` whose fields are as in `where`, there are `at_least` to `at_most`."""

    kind: Literal["records"]
    of: str
    where: dict[str, Any] = Field(default_factory=dict)
    at_least: int = Field(1, ge=0)
    at_most: int | None = Field(None, ge=0)

    @field_validator("of")
    @classmethod
    def _known(cls, of: str) -> str:
        if of not in KIND_OF_TOKEN:
            raise ValueError(f"{of!r} is no kind of record{did_you_mean(of, list(KIND_OF_TOKEN)) or ''}")
        return of

    def check(self, seen: Observation) -> Verdict:
        """Count them."""
        bodies = [one.body for one in seen.records if one.token == self.of]
        found = sum(
            all(getattr(body, name, None) == value for name, value in self.where.items()) for body in bodies
        )
        held = found >= self.at_least and (self.at_most is None or found <= self.at_most)
        return Verdict(held, f"{counted(found, 'record')} of {self.of}, of {len(bodies)} in all")
