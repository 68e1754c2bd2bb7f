"""A measured figure beside its peer's, and what it is to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure is to be.

    Attributes:
        bound: the limit.
        at_most: True when the figure must not exceed it, False when it must reach it.
        of_ratio: True when the limit is for the ratio to the peer, False for the value itself.
    """

    bound: float
    at_most: bool = False
    of_ratio: bool = False

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.bound:g}{'x' if self.of_ratio else ''}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Attributes:
        name: the benchmark, and after a dot what of it.
        value: ours; None when it could not be measured here.
        unit: of both values.
        peer: what it is compared with.
        peer_value: the peer's; None when it could not be measured here.
        target: None when none was set.
        note: for a person; why something is missing, or what the peer leaves out.
    """

    name: str
    value: float | None
    unit: str
    peer: str
    peer_value: float | None
    target: Target | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over the peer's."""
        if self.value is None or not self.peer_value:
            return None
        return self.value / self.peer_value

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one, or without a measurement."""
        if self.target is None:
            return None
        measured = self.ratio if self.target.of_ratio else self.value
        if measured is None:
            return None
        return measured <= self.target.bound if self.target.at_most else measured >= self.target.bound

    def as_json(self) -> dict[str, Any]:
        """The figure for a file."""
        return {
            "name": self.name,
            "value": _rounded(self.value),
            "unit": self.unit,
            "peer": self.peer,
            "peer_value": _rounded(self.peer_value),
            "ratio": _rounded(self.ratio),
        }


def middle(values: Sequence[float]) -> float | None:
    """The median; None of nothing."""
    return median(values) if values else None


def _rounded(value: float | None) -> float | None:
    """Four significant digits: more would only be noise."""
    return None if value is None else float(f"{value:.4g}")
