"""What a command gives: blocks that are printed, the same as data, and an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tsn_hw.app.output.blocks import Block, Cards, Note, Table

EXIT_DIFFERENT = 1
"""Of a command whose engines differ, or that refuses a model."""


@dataclass(frozen=True)
class CommandResult:
    """``data``: plain values for ``--json``; where a table shows some of them, its records are those very values."""

    blocks: Sequence[Block]
    data: Any
    exit_code: int = 0

    def text(self) -> str:
        """All blocks but pictures, a blank line between them."""
        return "\n\n".join(text for text in map(_text, self.blocks) if text)

    def json(self) -> Any:
        """Plain values of a JSON file."""
        return self.data


def _text(block: Block) -> str:
    match block:
        case Table():
            return "\n".join([*([block.caption] if block.caption else []), table_text(block)])
        case Note():
            return block.text
        case Cards():
            return "\n".join(f"{name}: {value} {unit}, {meaning}" for value, unit, name, meaning in block.cards)
        case _:
            return ""


def table_text(table: Table) -> str:
    """Columns aligned: numbers to the right, all else to the left.

    >>> print(table_text(Table([{"task": "a", "accuracy": 97.5}, {"task": "b", "accuracy": 100.0}])))
    task  accuracy
    a        97.50
    b       100.00
    """
    rows = [table.header, *([cell.plain for cell in row] for row in table.cells)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    places = list(zip(widths, table.numeric, strict=True))
    return "\n".join(
        "  ".join(
            text.rjust(width) if is_number else text.ljust(width)
            for text, (width, is_number) in zip(row, places, strict=True)
        ).rstrip()
        for row in rows
    )


def with_properties(record: Any) -> dict[str, Any]:
    """The fields of a dataclass as plain values, and its properties that are numbers."""
    names = [name for name, value in vars(type(record)).items() if isinstance(value, property)]
    found = {name: getattr(record, name) for name in names}
    return asdict(record) | {name: value for name, value in found.items() if isinstance(value, int | float)}
