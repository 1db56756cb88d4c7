"""Scripts for the vendor's tools: the templates of ``hls_templates/scripts`` with the numbers of a target in them."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from pathlib import Path

from tsn_hw.core.errors import ExportError

TEMPLATES = Path(__file__).parents[2] / "hls_templates"
SCRIPTS = ("build_hls.tcl", "hls_config.cfg", "block_design.tcl")
MAX_CLOCK_MHZ = 1000


@dataclass(frozen=True)
class Target:
    """The part that a project is for, in full (``xc7z020clg400-1``), and the clock that it shall run at."""

    part: str
    clock_mhz: float

    def __post_init__(self) -> None:
        if not re.fullmatch(r"xc[a-zA-Z0-9]+(-[a-zA-Z0-9]+)*", self.part):
            raise ExportError(f"part {self.part!r}: must be a part of AMD in full, such as xc7z020clg400-1")
        if not 1 <= self.clock_mhz <= MAX_CLOCK_MHZ:
            raise ExportError(f"clock of {self.clock_mhz:g} MHz: must be 1..{MAX_CLOCK_MHZ}")

    @property
    def period_ns(self) -> float:
        """Time of a clock cycle."""
        return 1000 / self.clock_mhz


class ScriptTemplate(string.Template):
    """Text with places written ``@{name}``, because Tcl and shells have their own use for the dollar."""

    delimiter = "@"


def render(template: str, **values: object) -> str:
    """A file of ``hls_templates`` with its places filled in; a value that it lacks, or does not take, is an error."""
    form = ScriptTemplate((TEMPLATES / template).read_text())
    unused = sorted(set(values) - set(form.get_identifiers()))
    if unused:
        raise ExportError(f"template {template}: has no place for {', '.join(unused)}")
    return form.substitute(values)


def scripts(target: Target) -> dict[str, str]:
    """Text of every script by its name in the folder ``scripts``."""
    period, clock = f"{target.period_ns:.3f}", f"{target.clock_mhz:g}"
    values = {
        "build_hls.tcl": {"part": target.part, "period_ns": period},
        "hls_config.cfg": {"part": target.part, "period_ns": period},
        "block_design.tcl": {"part": target.part, "clock_mhz": clock},
    }
    return {name: render(f"scripts/{name}.in", **values[name]) for name in SCRIPTS}
