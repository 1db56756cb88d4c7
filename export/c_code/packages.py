"""The files of a C project as other build systems want them: CMake, Arduino, Zephyr and ESP-IDF."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Literal

from export.hls.scripts import TEMPLATES

Package = Literal["make", "cmake", "arduino", "zephyr", "esp-idf"]

FOLDER = TEMPLATES / "c" / "packages"
EXAMPLE = {
    "cmake": "test/main.c",
    "arduino": "",  # a sketch of its own
    "zephyr": "samples/self_test/src/main.c",
    "esp-idf": "examples/self_test/main/main.c",
}
"""Where main.c goes, the self-test."""
README = "README.md"


def packaged(files: Mapping[str, bytes], package: Package) -> dict[str, bytes]:
    """The files of a project (path → content), laid out for a build system, with what that needs beside them."""
    if package == "make":
        return dict(files)
    moved = {
        f"src/{name}": data for name, data in files.items() if name.endswith((".c", ".h")) and name not in _PROGRAMS
    }
    own = FOLDER / package
    added = {str(PurePosixPath(path.relative_to(own))): path.read_bytes() for path in own.rglob("*") if path.is_file()}
    example = {EXAMPLE[package]: files["main.c"]} if EXAMPLE[package] else {}
    return moved | added | example | {README: files[README]}


def how_to_build(package: Package) -> str:
    """For the README: how a package is used, and what of it was built."""
    return (FOLDER / package / README).read_text().strip()


_PROGRAMS = ("main.c", "cortex_m.c", "riscv/string.h")
"""Of the Makefile alone."""
