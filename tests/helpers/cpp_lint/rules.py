"""Whether C++ can be synthesized, as far as its text shows: pragmas, and what hardware has none of.

The grammar of pragmas is that of :mod:`cpp_lint.pragmas`. What only a compiler sees is left to
:mod:`cpp_lint.objects`. Every finding names its rule:

=====================  ==============================================================================================
rule                   what is refused
=====================  ==============================================================================================
pragma-name            a pragma that Vitis HLS does not know
pragma-option          an unknown option, or a required one that is missing
pragma-value           a value that the option does not take
pragma-place           a pragma outside of a function, or of a loop where it is one for loops
pragma-variable        a variable that is not declared in its function or outside of all, a port that is no parameter
foreign-pragma         a pragma of somebody else
include                a header that is neither of HLS nor of the project
dynamic-memory         new, delete, malloc ...
standard-library       names of std, but for those that only types are made of
exception              throw, try, catch
run-time-type          dynamic_cast, typeid
virtual-function       virtual
system-call            printf, fopen, exit, time ...
goto                   goto
floating-point         float, double, and numbers with a point
assembly               asm
function-pointer       a pointer to a function
pointer-to-pointer     a pointer to a pointer
pointer-cast           reinterpret_cast
thread                 thread_local
endless-loop           a loop without end
=====================  ==============================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from tests.helpers.cpp_lint.pragmas import FLAG, PRAGMAS, pragma_options
from tests.helpers.cpp_lint.source import Pragma, Scope, Source, declares, parameters, read_source


@dataclass(frozen=True)
class Finding:
    """What is wrong, and where; line 0: in the file as a whole."""

    file: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.rule}: {self.text}"


_SYSTEM_CALLS = (
    "printf|fprintf|sprintf|puts|fopen|fclose|fread|fwrite|scanf|exit|abort|system|getenv|rand|srand|time|clock"
)
_TYPE_NAMES = "enable_if|enable_if_t|conditional|conditional_t|is_same|integral_constant|true_type|false_type"
BANNED: dict[str, re.Pattern[str]] = {
    "dynamic-memory": re.compile(r"\bnew\b|(?<!=)(?<!= )\bdelete\b|\b(?:malloc|calloc|realloc|free|alloca)\s*\("),
    "standard-library": re.compile(rf"\bstd\s*::\s*(?!(?:{_TYPE_NAMES})\b)\w+"),
    "exception": re.compile(r"\b(?:throw|try|catch)\b"),
    "run-time-type": re.compile(r"\b(?:dynamic_cast|typeid)\b"),
    "virtual-function": re.compile(r"\bvirtual\b"),
    "system-call": re.compile(rf"(?<![.\w])(?:{_SYSTEM_CALLS})\s*\("),
    "goto": re.compile(r"\bgoto\b"),
    "floating-point": re.compile(r"\b(?:float|double)\b|(?<![\w.])\d+(?:\.\d*(?:[eE][-+]?\d+)?|[eE][-+]?\d+)[fFlL]?"),
    "assembly": re.compile(r"\b(?:asm|__asm__|__asm)\b"),
    "function-pointer": re.compile(r"\(\s*\*\s*\w+\s*(?:\[[^\]]*\]\s*)?\)\s*\("),
    "pointer-to-pointer": re.compile(r"\w\s*\*\s*(?:const\s*)?\*\s*\w"),
    "pointer-cast": re.compile(r"\breinterpret_cast\b"),
    "thread": re.compile(r"\bthread_local\b"),
    "endless-loop": re.compile(r"\bwhile\s*\(\s*(?:1|true)\s*\)|\bfor\s*\(\s*[^;]*;\s*;"),
}
HLS_HEADERS = re.compile(r'\s*#\s*include\s*(?:<(?:ap_int|ap_fixed|ap_axi_sdata|hls_stream)\.h>|"[^"]+")')


def lint(files: Mapping[str, str], tables: Collection[str] = ()) -> list[Finding]:
    """What is wrong with files (name → text) of one project, in the order of files and lines.

    ``tables``: names that further files declare, which are too large to be read and hold nothing but numbers.
    """
    sources = [read_source(name, text) for name, text in files.items()]
    outside = "\n".join([*(f"int {name};" for name in tables), *(source.outside for source in sources)])
    found: list[Finding] = []
    for source in sources:
        own = [*_foreign_includes(source), *_banned(source)]
        for pragma in source.pragmas:
            line = source.line(pragma.start + source.text[pragma.start :].find("#"))
            own += [Finding(source.name, line, rule, text) for rule, text in _pragma(source, pragma, outside)]
        found += sorted(own, key=lambda finding: (finding.line, finding.rule))
    return found


def _foreign_includes(source: Source) -> Iterator[Finding]:
    for line, text in source.includes:
        if not HLS_HEADERS.match(text):
            header = re.sub(r"\s*#\s*include\s*|\s*//.*", "", text)
            yield Finding(source.name, line, "include", f"{header} is neither of HLS nor of the project")


def _banned(source: Source) -> Iterator[Finding]:
    macros = re.sub(r"^[ \t]*#[ \t]*(?!define\b)[^\n]*", "", source.text, flags=re.MULTILINE)
    for number, line in enumerate(macros.split("\n"), 1):
        for rule, pattern in BANNED.items():
            if found := pattern.search(line):
                yield Finding(source.name, number, rule, f"{' '.join(found[0].split())!r}")


def _pragma(source: Source, pragma: Pragma, outside: str) -> Iterator[tuple[str, str]]:
    """(rule, text) for everything that is wrong with a pragma."""
    words = pragma.text.split(None, 2)
    if not words or words[0].upper() != "HLS":
        if words != ["once"]:
            yield "foreign-pragma", f"{pragma.text!r}"
        return
    name = words[1].lower() if len(words) > 1 else ""
    rule = PRAGMAS.get(name)
    if rule is None:
        yield "pragma-name", f"there is no pragma {name!r}"
        return
    scopes = list(pragma.scope.outwards()) if pragma.scope is not None else []
    function = next((scope for scope in scopes if scope.kind == "function"), None)
    if function is None:
        yield "pragma-place", f"{name} stands outside of a function"
        return
    if rule.place == "loop" and not any(scope.kind == "loop" for scope in scopes):
        yield "pragma-place", f"{name} stands outside of a loop"
    if rule.place == "function" and pragma.scope is not function:
        yield "pragma-place", f"{name} stands inside of a block"
    given = pragma_options(words[2] if len(words) > 2 else "")
    for missing in [option for option in rule.required if option not in {key.lower() for key, _ in given}]:
        yield "pragma-option", f"{name} has no {missing}"
    for option, value in given:
        pattern = rule.options.get(option.lower())
        if pattern is None:
            yield "pragma-option", f"{name} has no option {option!r}"
        elif not re.fullmatch(pattern, value, re.IGNORECASE):
            takes = "takes no value" if pattern == FLAG else "does not take"
            yield "pragma-value", f"{name}: {option} {takes} {value!r}"
        elif option.lower() in ("variable", "port") and not _is_declared(
            source, pragma, function, outside, option, value
        ):
            yield "pragma-variable", f"{name}: there is no {option} {value!r} in its function"


def _is_declared(source: Source, pragma: Pragma, function: Scope, outside: str, option: str, value: str) -> bool:
    name = value.partition(".")[0]
    if name in parameters(function):
        return True
    if option.lower() == "port":
        return name == "return"
    return declares(source.code[function.start : pragma.start], name) or declares(outside, name)
