"""Sections as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tsn_hw import __version__
from tsn_hw.app.output.blocks import Section


def render_page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """The page as text. Same blocks, same page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("page.html")
    return page.render(title=title, subtitle=subtitle, sections=sections, version=__version__)
