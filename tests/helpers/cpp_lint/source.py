"""Just enough of C++ to lint it without a compiler: what synthesis sees of a file, its scopes and their names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["namespace", "type", "function", "loop", "block", "values"]

_DARK = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)
_DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n\\]|\\\n|\\.)*", re.MULTILINE)
_TOKEN = re.compile(r"[{}();]|^[ \t]*#[ \t]*pragma\b(?P<pragma>(?:[^\n\\]|\\\n)*)", re.MULTILINE)
_NOT_SYNTHESIS = re.compile(r"#\s*(?:ifndef\s+__SYNTHESIS__|if\s+!\s*defined\s*\(?\s*__SYNTHESIS__)")
_SYNTHESIS = re.compile(r"#\s*(?:ifdef\s+__SYNTHESIS__|if\s+defined\s*\(?\s*__SYNTHESIS__)")
_BEFORE_NO_NAME = {"return", "else", "delete", "new", "goto", "case", "throw", "operator"}


@dataclass(frozen=True)
class Scope:
    """What stands between two braces: ``header`` is the text before them, ``around`` the scope that it lies in."""

    kind: Kind
    header: str
    start: int
    around: Scope | None

    def outwards(self) -> Iterator[Scope]:
        """This scope and those around it, from the inside out."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.around


@dataclass(frozen=True)
class Pragma:
    """A pragma: the text behind ``#pragma``, and the innermost scope that it stands in (None: the file)."""

    start: int
    text: str
    scope: Scope | None


@dataclass(frozen=True)
class Source:
    """A file as synthesis sees it. What is not seen is blank, so that places stay what they are.

    text: without comments and the content of strings. code: without preprocessor directives too. outside: without the
    bodies and parameters of functions too.
    """

    name: str
    includes: tuple[tuple[int, str], ...]
    text: str
    code: str
    outside: str
    pragmas: tuple[Pragma, ...]

    def line(self, place: int) -> int:
        """Number of the line that a place of the text lies in."""
        return self.text.count("\n", 0, place) + 1


def read_source(name: str, content: str) -> Source:
    """A file of C++ that braces and parentheses are balanced in, as a compiler has seen to."""
    text = _seen_by_synthesis(_DARK.sub(lambda found: _blank(found[0]), content))
    code = _DIRECTIVE.sub(lambda found: _blank(found[0]), text)
    pragmas, bodies = _scan(text, code)
    outside = code
    for start, end in bodies:
        outside = outside[:start] + _blank(outside[start:end]) + outside[end:]
    shown = zip(text.split("\n"), content.split("\n"), strict=True)
    outside = _without_parentheses(outside)
    includes = [(line, full) for line, (seen, full) in enumerate(shown, 1) if re.match(r"\s*#\s*include\b", seen)]
    return Source(name, tuple(includes), text, code, outside, pragmas)


def parameters(scope: Scope) -> set[str]:
    """Names of the parameters of a function, those of its template included."""
    header = scope.header.strip()
    templates = header[: len(header) - len(_without_template(header))]
    start = header.find("(", len(templates))
    parts = [*_split(templates[templates.find("<") + 1 :]), *_split(header[start + 1 :])]
    names = (re.search(r"(\w+)\s*\)?\s*(?:\[[^=]*\]\s*)*(?:=.*)?$", text.strip(), re.DOTALL) for text in parts)
    return {found[1] for found in names if found}


def _split(text: str) -> Iterator[str]:
    """What stands between the commas of a list, up to the bracket that ends it."""
    depth, begin = 0, 0
    for place, letter in enumerate(text):
        if depth == 0 and letter in "),>":
            yield text[begin:place]
            begin = place + 1
            if letter != ",":
                return
        depth += (letter in "(<[") - (letter in ")>]")


def declares(code: str, name: str) -> bool:
    """Whether a name is declared in a piece of code: behind a type, and before what may follow a declared name."""
    for found in re.finditer(rf"(?<![\w.]){re.escape(name)}\s*[;=\[({{,:)]", code):
        before = code[: found.start()].rstrip()
        word = re.search(r"\w+$", before)
        if word is not None and word[0] not in _BEFORE_NO_NAME:
            return True
        if before.endswith((">", "&", "*")):
            return True
        statement = before[max(before.rfind(sign) for sign in ";{}") + 1 :]
        if before.endswith(",") and statement.count("(") == statement.count(")") and re.match(r"\s*[\w:]+", statement):
            return True
    return False


def _seen_by_synthesis(text: str) -> str:
    """The text without what ``__SYNTHESIS__`` leaves out; other conditions leave nothing out."""
    lines = []
    open_conditions: list[tuple[bool, bool]] = []  # whether they hide what stands now, and behind #else
    for line in text.split("\n"):
        directive = line.strip()
        if re.match(r"#\s*if", directive):
            hides = bool(_NOT_SYNTHESIS.match(directive)), bool(_SYNTHESIS.match(directive))
            open_conditions.append(hides)
        elif re.match(r"#\s*el", directive) and open_conditions:
            open_conditions[-1] = open_conditions[-1][::-1]
        elif re.match(r"#\s*endif", directive) and open_conditions:
            open_conditions.pop()
        lines.append(_blank(line) if any(hides for hides, _ in open_conditions) else line)
    return "\n".join(lines)


def _scan(text: str, code: str) -> tuple[tuple[Pragma, ...], list[tuple[int, int]]]:
    """All pragmas, and start and end of the bodies of functions."""
    pragmas: list[Pragma] = []
    bodies: list[tuple[int, int]] = []
    scope: Scope | None = None
    header, depth = 0, 0  # where the text before the next brace begins, and how many parentheses are open
    outer: list[tuple[int, int]] = []
    for found in _TOKEN.finditer(text):
        token, place = found[0], found.start()
        if found["pragma"] is not None:
            pragmas.append(Pragma(place, found["pragma"].replace("\\\n", " ").strip(), scope))
        elif token in "()":
            depth += 1 if token == "(" else -1
        elif token == ";" and depth == 0:
            header = place + 1
        elif token == "{":
            outer.append((header, depth))
            before = code[header:place]
            scope = Scope(_kind(before, scope, depth), before, place + 1, scope)
            header, depth = place + 1, 0
        elif token == "}" and scope is not None:
            if scope.kind == "function":
                bodies.append((scope.start, place))
            header, depth = outer.pop()
            if scope.kind != "values":  # the text of a declaration goes on behind its values
                header = place + 1
            scope = scope.around
    return tuple(pragmas), bodies


def _kind(header: str, around: Scope | None, depth: int) -> Kind:
    text = _without_template(header).strip()
    in_function = around is not None and any(scope.kind == "function" for scope in around.outwards())
    if in_function:
        statement = re.sub(r"^(?:\w+\s*:(?!:)\s*)+", "", text)  # without labels
        if re.match(r"(?:for|while|do)\b", statement):
            return "loop"
        if (
            not statement
            or re.match(r"(?:if|else|switch|try|catch)\b", statement)
            or "](" in statement.replace(" ", "")
        ):
            return "block"
    elif re.match(r"(?:inline\s+)?namespace\b|extern$", text):
        return "namespace"
    elif "(" in text and not text.endswith("=") and depth == 0:
        return "function"
    if re.match(r"(?:typedef\s+)?(?:struct|class|union|enum)\b", text):
        return "type"
    return "values"


def _without_parentheses(code: str) -> str:
    """Code whose parentheses are empty."""
    depth, letters = 0, []
    for letter in code:
        depth -= letter == ")"
        letters.append(" " if depth > 0 and letter != "\n" else letter)
        depth += letter == "("
    return "".join(letters)


def _without_template(header: str) -> str:
    """A header without the ``template <...>`` before it."""
    text = header.strip()
    while found := re.match(r"template\s*<", text):
        depth, place = 1, found.end()
        while depth and place < len(text):
            depth += (text[place] == "<") - (text[place] == ">")
            place += 1
        text = text[place:].strip()
    return text


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)
