"""``tsn_hw.export`` and ``tsn_hw.sim``: other names of ``export`` and ``sim``, whose own names are common words.

A script that lies beside a file of its own called ``sim.py`` imports ours as ``tsn_hw.sim``. Where nobody else has the
plain name, both names mean the same modules. Where somebody has, ours are loaded under the longer name, and find one
another by it.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec, spec_from_file_location, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

HERE, PLACE = "tsn_hw.", Path(__file__).parents[2]
PLAIN = ("export", "sim")


class _SameModule(Loader):
    """Gives a module that is known by its plain name a second one."""

    def __init__(self, plain: str) -> None:
        self.module = importlib.import_module(plain)
        self.spec = self.module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec  # the import system has just put the longer name there


class _Renamed(SourceFileLoader):
    """Loads a module of ours whose plain names belong to somebody else."""

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = vars(builtins) | {"__import__": _import}
        super().exec_module(module)


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        plain = fullname.removeprefix(HERE)
        package = plain.partition(".")[0]
        if plain == fullname or package not in PLAIN:
            return None
        if _is_ours(package):
            return spec_from_loader(fullname, _SameModule(plain)) if find_spec(plain) else None
        place = PLACE.joinpath(*plain.split("."))
        folder = place.is_dir()
        file = place / "__init__.py" if folder else place.with_suffix(".py")
        if not file.is_file():
            return None
        loader, below = _Renamed(fullname, str(file)), [str(place)] if folder else None
        return spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=below)


def _is_ours(package: str) -> bool:
    """Whether a plain name means our package in this process; a package that is loaded already has decided it."""
    loaded = sys.modules.get(HERE + package)
    if loaded is not None:
        return loaded.__name__ == package
    known = sys.modules.get(package)
    spec = find_spec(package) if known is None else known.__spec__
    return spec is not None and spec.origin is not None and Path(spec.origin) == PLACE / package / "__init__.py"


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    """Python's import for modules of ours that are known by their longer names."""
    package = name.partition(".")[0]
    if level or package not in PLAIN:
        return builtins.__import__(name, globals, locals, fromlist or (), level)
    module = builtins.__import__(HERE + name, globals, locals, fromlist or (), 0)
    return module if fromlist else sys.modules[HERE + package]


def install() -> None:
    """Make the longer names known to this process."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())  # before the one that finds files of a package by its path
