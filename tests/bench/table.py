"""What a benchmark has to say: figures beside what they are to be like, for people and as JSON."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

HEAD = ("name", "ours", "reference", "ratio", "goal", "met")


@dataclass(frozen=True)
class Goal:
    """
    What the ratio is to be at most, or at least; or what `ours` is, in its unit.

    A memory that must not grow has its bound, whatever it is compared to.
    """

    limit: float
    is_least: bool = False
    is_of_ours: bool = False

    def is_met(self, ours: float, ratio: float) -> bool:
        measured = ours if self.is_of_ours else ratio
        return measured >= self.limit if self.is_least else measured <= self.limit


@dataclass(frozen=True)
class Row:
    name: str
    ours: float
    reference: float
    unit: str
    goal: Goal

    @property
    def ratio(self) -> float:
        return self.ours / self.reference

    @property
    def is_met(self) -> bool:
        return self.goal.is_met(self.ours, self.ratio)

    def said(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "ours": self.ours,
            "reference": self.reference,
            "unit": self.unit,
            "ratio": self.ratio,
            "goal": self._goal(),
            "met": self.is_met,
        }

    def cells(self) -> tuple[str, ...]:
        ours, reference = (f"{figure:.4g} {self.unit}" for figure in (self.ours, self.reference))
        is_met = "yes" if self.is_met else "no"
        return (self.name, ours, reference, f"{self.ratio:.3g}", self._goal(), is_met)

    def _goal(self) -> str:
        sign = "≥" if self.goal.is_least else "≤"
        unit = f" {self.unit}" if self.goal.is_of_ours else ""
        return f"{sign} {self.goal.limit:g}{unit}"


def lines_of(rows: Sequence[Row]) -> list[str]:
    """In Markdown."""
    table = [HEAD, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    table.insert(1, tuple("-" * width for width in widths))
    return [f"| {' | '.join(map(str.ljust, cells, widths))} |" for cells in table]


def medians(rounds: int, *measures: Callable[[], Sequence[float]]) -> list[float]:
    """Of each over all rounds, in which they take turns: a machine that slows down does so for all."""
    samples: list[list[float]] = [[] for _ in measures]
    for _ in range(rounds):
        for found, measure in zip(samples, measures, strict=True):
            found.extend(measure())
    return [median(found) for found in samples]
