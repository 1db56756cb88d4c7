"""Notebooks as scripts: their cells, what they print, and the pictures that they write, as a page of the site.

A notebook is a Python file in the percent format of jupytext: ``# %%`` begins a cell of code, ``# %% [markdown]`` one
of text, whose lines are comments.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsn_hw.core.errors import EngineError, SettingsError
from tsn_hw.core.files import read_bytes

PICTURES = (".png", ".svg")


@dataclass(frozen=True)
class Cell:
    """A piece of a notebook: Markdown, or code."""

    is_text: bool
    source: str


@dataclass(frozen=True)
class Ran:
    """A cell of code that ran: what it printed, and the pictures that it left in the working directory."""

    printed: str
    pictures: tuple[Path, ...]


def cells(path: Path) -> list[Cell]:
    """The cells of a notebook; SettingsError if it does not begin with one."""
    head, *parts = re.split(r"^# %%(.*)\n", read_bytes(path).decode(), flags=re.MULTILINE)
    if head.strip():
        raise SettingsError(f"{path}: must begin with a cell, '# %%'")
    found = []
    for kind, source in zip(parts[::2], parts[1::2], strict=True):
        is_text = kind.strip() == "[markdown]"
        text = re.sub(r"^# ?", "", source, flags=re.MULTILINE) if is_text else source
        found.append(Cell(is_text, text.strip("\n")))
    return found


def run_cells(path: Path) -> list[Ran | str]:
    """What came of every cell of code, in the working directory; the reason where a tool is missing, once.

    A cell that raises EngineError ends the notebook: what it needs is not installed here.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    found: list[Ran | str] = []
    for number, cell in enumerate(cells(path)):
        if cell.is_text:
            continue
        before = _pictures()
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            try:
                exec(compile(cell.source, f"{path}, cell {number}", "exec"), names)
            except EngineError as error:
                return [*found, str(error)]
        new = tuple(picture for picture, time in _pictures().items() if before.get(picture) != time)
        found.append(Ran(printed.getvalue(), new))
    return found


def _pictures() -> dict[Path, int]:
    files = sorted(path for path in Path().iterdir() if path.suffix in PICTURES)
    return {path: path.stat().st_mtime_ns for path in files}


def notebook_page(path: Path, folder: Path, source: str, run: bool = True) -> str:
    """The page of a notebook, run in the working directory; its pictures go into the folder. ``source``: its name."""
    ran = iter(run_cells(path) if run else [])
    text = []
    for cell in cells(path):
        if cell.is_text:
            text += [cell.source, ""]
            continue
        text += ["```python", cell.source, "```", ""]
        result = next(ran, "")
        if isinstance(result, str):
            text += [f"*Not run here: {result}.*", ""] if result else []
            continue
        if result.printed.strip():
            text += ["```text", result.printed.strip("\n"), "```", ""]
        for picture in result.pictures:
            name = f"{path.stem}_{picture.stem}{picture.suffix}"
            shutil.copy(picture, folder / name)
            text += [f"![{picture.stem.replace('_', ' ')}]({name})", ""]
    return "\n".join([*text, f"The file: `{source}`. It runs as a script, and as a notebook with jupytext.", ""])
