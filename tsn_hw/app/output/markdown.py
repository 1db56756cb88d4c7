"""Blocks as Markdown, for files that people read as text: tables in pipes, cards as a list, pictures left out."""

from __future__ import annotations

from collections.abc import Sequence

from tsn_hw.app.output.blocks import Block, Cards, Note, Section, Table


def markdown(sections: Sequence[Section]) -> str:
    """Sections under headings of the second level, a blank line between their blocks.

    >>> table = Table.of_rows(["part", "bits"], [["masks|codes", 1234]])
    >>> print(markdown([Section("bits", "Bits", [table, Note("So few.")])]))
    ## Bits
    <BLANKLINE>
    | part | bits |
    |---|--:|
    | masks\\|codes | 1,234 |
    <BLANKLINE>
    So few.
    <BLANKLINE>
    """
    parts = [text for section in sections for text in (f"## {section.title}", *map(_text, section.blocks)) if text]
    return "\n\n".join(parts) + "\n"


def _text(block: Block) -> str:
    match block:
        case Table():
            return "\n".join([*([f"**{block.caption}**", ""] if block.caption else []), *_table(block)])
        case Note():
            return "  \n".join(block.text.splitlines())  # two spaces break a line
        case Cards():
            return "\n".join(
                f"- {name}: **{' '.join((value, unit)).strip()}**, {told}" for value, unit, name, told in block.cards
            )
        case _:
            return ""


def _table(table: Table) -> list[str]:
    rule = ["--:" if is_number else "---" for is_number in table.numeric]
    rows = [table.header, rule, *([cell.text for cell in row] for row in table.cells)]
    lines = ["| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in rows]
    lines[1] = lines[1].replace(" ", "")
    return lines
