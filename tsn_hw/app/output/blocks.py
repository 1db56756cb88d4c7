"""What commands and pages are made of: tables, pictures, cards and text. Each form of output shows the same blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias

from markupsafe import Markup

Value: TypeAlias = str | int | float | None
WHITE, BLUE = (255, 255, 255), (0, 84, 147)
MIDDLE = 0.179
"""Luminance on which black and white text are read equally well."""


def luminance(color: Sequence[int]) -> float:
    """Relative luminance of 8-bit red, green and blue, as WCAG 2 defines it.

    >>> luminance((0, 0, 0)), round(luminance((255, 255, 255)), 3), round(luminance((255, 0, 0)), 3)
    (0.0, 1.0, 0.213)
    """
    linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@dataclass(frozen=True)
class Cell:
    """A table cell. ``share`` of 0..1 shades it from white to blue; ``state`` marks it with a sign and a colour."""

    value: Value
    share: float | None = None
    state: Literal["good", "bad", "absent"] | None = None

    @property
    def text(self) -> str:
        """The value as a page shows it: whole numbers in groups of three, others with two decimals.

        >>> [Cell(value).text for value in (1234567, 97.5, None, "fc1")]
        ['1,234,567', '97.50', '–', 'fc1']
        """
        if self.value is None:
            return "–"
        if isinstance(self.value, float):
            return f"{self.value:,.2f}"
        return f"{self.value:,}" if isinstance(self.value, int) else self.value

    @property
    def plain(self) -> str:
        """The value as a console shows it, without groups."""
        if self.value is None:
            return "-"
        return f"{self.value:.2f}" if isinstance(self.value, float) else str(self.value)

    @property
    def style(self) -> str:
        """Inline colours of a shaded cell: of white and black text the one that is read better."""
        if self.share is None:
            return ""
        color = [round(a + (b - a) * self.share) for a, b in zip(WHITE, BLUE, strict=True)]
        text = "#fff" if luminance(color) < MIDDLE else "#000"
        return f"background:rgb({','.join(map(str, color))});color:{text}"


def share_cell(percent: float) -> Cell:
    """A share of a resource, shaded; none where it is infinite, since there is nothing of it."""
    return Cell(percent, min(1.0, percent / 100)) if math.isfinite(percent) else Cell(None)


@dataclass(frozen=True)
class Table:
    """Records under a header; the first column names a record.

    columns: key in the records -> header, of those that are shown; without, every key of the first record.
    folded: a page hides the table behind its caption until asked for.
    """

    kind: ClassVar = "table"
    records: Sequence[Mapping[Any, Any]]
    columns: Mapping[Any, str] | None = None
    caption: str = ""
    folded: bool = False

    @classmethod
    def of_rows(
        cls, header: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "", folded: bool = False
    ) -> Table:
        """A table whose records have no names but the places of their values."""
        return cls([dict(enumerate(row)) for row in rows], dict(enumerate(header)), caption, folded)

    @cached_property
    def header(self) -> list[str]:
        """Names of the columns."""
        if self.columns is not None:
            return list(self.columns.values())
        return list(self.records[0]) if self.records else []

    @cached_property
    def cells(self) -> list[list[Cell]]:
        """The shown values of every record, in the order of the header."""
        keys = self.header if self.columns is None else list(self.columns)
        rows = [[record[key] for key in keys] for record in self.records]
        return [[value if isinstance(value, Cell) else Cell(value) for value in row] for row in rows]

    @cached_property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers, or nothing at all: they stand at the right."""
        columns = [[row[place].value for row in self.cells] for place in range(len(self.header))]
        return [any(isinstance(v, int | float) for v in values) or set(values) == {None} for values in columns]


@dataclass(frozen=True)
class Figure:
    """A picture as markup that carries its own text alternative, and what is said below it."""

    kind: ClassVar = "figure"
    markup: Markup
    caption: str


@dataclass(frozen=True)
class Gallery:
    """Small pictures side by side, as many as the page has room for."""

    kind: ClassVar = "gallery"
    figures: Sequence[Figure]


@dataclass(frozen=True)
class Note:
    """A paragraph, or some lines."""

    kind: ClassVar = "note"
    text: str


@dataclass(frozen=True)
class Cards:
    """Figures to see first: value, unit, what it is, and what it means."""

    kind: ClassVar = "cards"
    cards: Sequence[tuple[str, str, str, str]]


Block: TypeAlias = Table | Figure | Gallery | Note | Cards


@dataclass(frozen=True)
class Section:
    """A part of a page, with an anchor."""

    anchor: str
    title: str
    blocks: Sequence[Block]
