"""What commands give, and how it is shown: as text, as JSON, and as a page."""

from tsn_hw.app.output.blocks import Block, Cards, Cell, Figure, Gallery, Note, Section, Table, Value, share_cell
from tsn_hw.app.output.result import CommandResult, table_text, with_properties

__all__ = [
    "Block", "Cards", "Cell", "CommandResult", "Figure", "Gallery", "Note", "Section", "Table", "Value", "share_cell",
    "table_text", "with_properties",
]  # fmt: skip
