"""What a check found, and what it has to work with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from agent.config import Config


class Verdict(StrEnum):
    """How it stands. What could not be looked at is unknown, never good."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the page.

    Attributes:
        check: name of the check, from the table.
        subject: what was looked at, such as a device's name; "" for the whole.
        verdict: how it stands.
        what: one plain sentence.
        do: what to do, for everything that is not good.
    """

    check: str
    subject: str
    verdict: Verdict
    what: str
    do: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """What the checks look at.

    Attributes:
        config_path: the configuration file.
        config: what is in it; None when it can not be used.
        problems: why it can not.
        status: what the running agent says; None when none answers.
        listen_s: how long a device is listened to.
        root: where /sys and /proc are, "/" but for tests.
    """

    config_path: Path
    config: Config | None
    problems: tuple[str, ...]
    status: Mapping[str, Any] | None
    listen_s: float
    root: Path = Path("/")

    @property
    def known(self) -> Config:
        """The configuration, for checks that need one."""
        assert self.config is not None
        return self.config

    def reasons(self) -> Mapping[str, str]:
        """The running agent's health reasons with their details."""
        return {} if self.status is None else self.status.get("health", {})


@dataclass(frozen=True, slots=True)
class Say:
    """Makes the findings of one check."""

    check: str

    def good(self, subject: str, what: str) -> Finding:
        """All is well."""
        return Finding(self.check, subject, Verdict.GOOD, what)

    def bad(self, subject: str, what: str, do: str) -> Finding:
        """Something is to be done."""
        return Finding(self.check, subject, Verdict.BAD, what, do)

    def unknown(self, subject: str, what: str, do: str) -> Finding:
        """It could not be looked at."""
        return Finding(self.check, subject, Verdict.UNKNOWN, what, do)


class Check(Protocol):
    """A check: finds what it finds, and raises nothing that is to be expected."""

    def __call__(self, patient: Patient, say: Say) -> Iterator[Finding]:
        """Look, and tell."""
        ...
