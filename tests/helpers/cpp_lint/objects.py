"""Whether C++ can be synthesized, as far as a compiler sees: it is compiled as for synthesis, and the object is read.

=====================  ==============================================================================================
rule                   what is refused
=====================  ==============================================================================================
does-not-compile       what the compiler refuses
compiler-warning       what it warns of
foreign-code           functions and variables of somebody else: there is no hardware for them
static-constructor     code of the project that runs before the top function: tables must be constants
dynamic-stack          memory whose size is known at run time only
recursion              functions that call one another in a circle
=====================  ==============================================================================================

It needs GCC (10 or newer) and nm. What stands in headers of given other folders, those of HLS types for one, is not
judged.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.helpers.cpp_lint.rules import Finding
from tsn_hw.core.errors import EngineError

FLAGS = [
    *("-std=c++14", "-O0", "-D__SYNTHESIS__", "-fno-threadsafe-statics"),
    *("-Wall", "-Wextra", "-Wshadow", "-Wno-unknown-pragmas", "-Wno-unused-label"),
    *("-fstack-usage", "-fcallgraph-info"),
]
HARDWARE_CALLS = re.compile(r"(?:__builtin_)?(?:memcpy|memset|memmove)|__builtin_unwind_resume")
"""Functions that synthesis makes hardware of; the last one stands for exceptions, which the text rules out."""
STARTS = re.compile(r"_GLOBAL__sub_I_|__static_initialization_and_destruction")
"""Functions that a compiler makes for what is computed before anything is called."""
LANGUAGE_DATA = re.compile(r"_ZT[VIS]|_ZN?K?St|__|_GLOBAL_OFFSET_TABLE_|_Unwind")
"""Symbols of the language and its library, which headers that are not judged need."""
STREAMS = re.compile(r"_ZNSt8ios_base4Init|__cxa_atexit")
"""What <iostream>, in a header that is not judged, calls then."""


@dataclass(frozen=True)
class _Function:
    """A function of the call graph, and whose code it is; file and line are known of the project's own."""

    title: str
    name: str
    owner: Literal["project", "system", "others"]
    file: str
    line: int


@dataclass(frozen=True)
class _Folders:
    """root: the project. system: folders of headers that are not judged."""

    root: Path
    system: tuple[Path, ...]

    def owner(self, file: str) -> Literal["project", "system", "others"]:
        path = Path(file)
        if path.is_relative_to(self.root):
            return "project"
        return "system" if any(path.is_relative_to(folder) for folder in self.system) else "others"

    def name(self, file: str) -> str:
        """A file of the project as it is reported."""
        return Path(file).relative_to(self.root).as_posix()


def lint_objects(root: Path, sources: Sequence[Path], system: Sequence[Path] = ()) -> list[Finding]:
    """What is wrong with the object files of some sources of a project.

    root: folder of the project, where it finds its own headers. system: folders of headers that are not judged.
    Raises EngineError where there is no compiler.
    """
    for tool in ("g++", "nm"):
        if shutil.which(tool) is None:
            raise EngineError(f"{tool} is not installed: objects cannot be linted")
    folders = _Folders(root.resolve(), tuple(path.resolve() for path in system))
    found: set[Finding] = set()
    for source in sources:
        with tempfile.TemporaryDirectory() as work:
            found |= set(_lint_object(folders, source.resolve(), Path(work)))
    return sorted(found, key=lambda finding: (finding.file, finding.line, finding.rule, finding.text))


def _lint_object(folders: _Folders, source: Path, work: Path) -> Iterator[Finding]:
    places = [f"-I{folders.root}", *(part for path in folders.system for part in ("-isystem", str(path)))]
    command = ["g++", *FLAGS, *places, "-c", str(source), "-o", "lint.o"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    for file, line, kind, text in re.findall(r"^(/.+?):(\d+):\d+: (error|warning): (.*)$", done.stderr, re.MULTILINE):
        if folders.owner(file) == "project":
            rule = "compiler-warning" if kind == "warning" else "does-not-compile"
            yield Finding(folders.name(file), int(line), rule, text)
    if done.returncode:
        yield Finding(folders.name(str(source)), 0, "does-not-compile", f"g++ ends with {done.returncode}")
        return
    functions, calls = _call_graph(folders, (work / "lint.ci").read_text())
    symbols = subprocess.run(["nm", "lint.o"], cwd=work, capture_output=True, text=True, check=True).stdout
    yield from _foreign_calls(functions, calls)
    yield from _recursions(functions, calls)
    for rule, text in [*_foreign_data(functions, symbols), *_static_constructors(functions, calls)]:
        yield Finding(folders.name(str(source)), 0, rule, text)
    stacks = re.findall(r"^(/.+?):(\d+):\d+:(.*)\t\d+\tdynamic$", (work / "lint.su").read_text(), re.MULTILINE)
    for file, line, name in stacks:
        if folders.owner(file) == "project":
            yield Finding(folders.name(file), int(line), "dynamic-stack", f"{name!r} has memory of unknown size")


def _call_graph(folders: _Folders, text: str) -> tuple[dict[str, _Function], dict[str, list[str]]]:
    """Functions by their title, and the titles of those that each calls."""
    functions: dict[str, _Function] = {}
    for title, name, place in re.findall(r'^node: \{ title: "([^"]*)" label: "(.*?)\\n(.*?)"', text, re.MULTILINE):
        file, line = place.rsplit(":", 2)[:2] if place.count(":") > 1 else ("", "0")
        owner = folders.owner(file)
        functions[title] = _Function(title, name, owner, folders.name(file) if owner == "project" else "", int(line))
    calls: dict[str, list[str]] = {}
    for caller, callee in re.findall(r'^edge: \{ sourcename: "([^"]*)" targetname: "([^"]*)"', text, re.MULTILINE):
        calls.setdefault(caller, []).append(callee)
    has_body = set(re.findall(r'^node: \{ title: "([^"]*)"(?!.*shape : ellipse)', text, re.MULTILINE))
    for title, function in functions.items():
        if title not in has_body and function.owner == "project":  # declared here, but the code is somebody else's
            functions[title] = _Function(title, function.name, "others", "", 0)
    return functions, calls


def _foreign_calls(functions: dict[str, _Function], calls: dict[str, list[str]]) -> Iterator[Finding]:
    for title, callees in calls.items():
        caller = functions[title]
        if caller.owner != "project" or STARTS.search(title):
            continue
        for callee in (functions[callee] for callee in callees if callee in functions):
            name = re.search(r"[\w~]+(?=\()", callee.name)
            if callee.owner == "others" and not (name and HARDWARE_CALLS.fullmatch(name[0])):
                yield Finding(caller.file, caller.line, "foreign-code", f"{caller.name!r} calls {callee.name!r}")


def _foreign_data(functions: dict[str, _Function], symbols: str) -> Iterator[tuple[str, str]]:
    """Symbols that are defined elsewhere, and are no functions: these have been judged by who calls them."""
    for name in re.findall(r"^ +U (.*)$", symbols, re.MULTILINE):
        if name not in functions and not LANGUAGE_DATA.match(name):
            yield "foreign-code", f"{name!r} is defined elsewhere"


def _static_constructors(functions: dict[str, _Function], calls: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    called = {callee for title in calls if STARTS.search(title) for callee in calls[title]}
    for title in sorted(called):
        function = functions.get(title)
        if (
            function is not None
            and function.owner != "system"
            and not STARTS.search(title)
            and not STREAMS.match(title)
        ):
            yield "static-constructor", f"{function.name!r} is called before the top function"


def _recursions(functions: dict[str, _Function], calls: dict[str, list[str]]) -> Iterator[Finding]:
    """One finding for every function of the project that can come to call itself."""
    for title, function in functions.items():
        if function.owner != "project":
            continue
        seen: set[str] = set()
        waiting = list(calls.get(title, ()))
        while waiting:
            other = waiting.pop()
            if other not in seen:
                seen.add(other)
                waiting += calls.get(other, ())
        if title in seen:
            yield Finding(function.file, function.line, "recursion", f"{function.name!r} comes to call itself")
