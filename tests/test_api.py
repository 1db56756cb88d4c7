"""docs/api.md lists what users import, with the first sentence of every docstring."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "api.md").read_text("utf-8")
MODULES = re.findall(r"^## `([\w.]+)`$", PAGE, re.MULTILINE)


def _expected(module_name: str) -> str:
    """The table of a module as the page should have it."""
    module = importlib.import_module(module_name)
    rows = []
    for name in module.__all__:
        value = getattr(module, name)
        if name.startswith("__"):
            continue
        first = " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())
        sentence = re.split(r"(?<=[.;:]) ", first)[0].rstrip(".:; ") + "."
        rows.append(f"| `{name}` | {sentence.replace('|', chr(92) + '|')} |")
    return "\n".join(["| name | what it is |", "| --- | --- |", *rows])


def test_the_page_has_every_public_module() -> None:
    assert MODULES == ["tsn_hw", "tsn_hw.learn", "export", "sim"]


@pytest.mark.parametrize("module", MODULES)
def test_the_page_lists_what_a_module_exports(module: str) -> None:
    section = PAGE.split(f"## `{module}`\n")[1].split("\n## ")[0]
    assert _expected(module) in section, f"docs/api.md, {module}: write\n{_expected(module)}"


@pytest.mark.parametrize("module", MODULES)
def test_everything_public_is_described(module: str) -> None:
    found = importlib.import_module(module)
    for name in found.__all__:
        value = getattr(found, name)
        assert isinstance(value, str) or (inspect.getdoc(value) and not value.__doc__.startswith(f"{name}(")), name
