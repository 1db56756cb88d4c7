"""The limits that CONTRIBUTING promises, at the promised values, and that every test can fail."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("tsn_hw", "export", "sim", "tests", "benchmarks")
TREES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text())
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
}
TESTS = {name: tree for name, tree in TREES.items() if name.startswith("tests/")}
FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 40, 6


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def lines(function):
    """From ``def`` to the end, docstring and comments included, decorators not."""
    return function.end_lineno - function.lineno + 1


def parameters(function):
    """Names of all parameters, those by keyword alone too; ``self`` and ``cls`` are none."""
    given = function.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def beyond(name, source, tree):
    """(place, number) of everything in a file that is larger than CONTRIBUTING promises."""
    count = len(source.splitlines())
    if count > FILE_LINES:
        yield f"{name}: lines", count
    for function in functions(tree):
        if lines(function) > FUNCTION_LINES:
            yield f"{name}: {function.name}: lines", lines(function)
        if len(parameters(function)) > PARAMETERS:
            yield f"{name}: {function.name}: parameters", len(parameters(function))


def test_files_functions_and_parameters_stay_within_their_limits():
    found = dict(place for name, tree in TREES.items() for place in beyond(name, (ROOT / name).read_text(), tree))
    assert found == {}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1\n" * 400, []),
        ("x = 1\n" * 401, [("f.py: lines", 401)]),
        ("@g(\n    1\n)\ndef f():\n" + "    x = 1\n" * 39, []),
        ("def f():\n" + "    x = 1\n" * 40, [("f.py: f: lines", 41)]),
        ('async def f():\n    """One.\n\n    More.\n    """' + "\n    x = 1" * 37, [("f.py: f: lines", 42)]),
        ("class A:\n    def f(self, a, b, /, c, d, *e, f, g, **h): ...", []),
        ("class A:\n    def f(self, a, b, /, c, d, *, e, f, g): ...", [("f.py: f: parameters", 7)]),
    ],
)
def test_what_is_beyond_a_limit_is_found(source, expected):
    assert list(beyond("f.py", source, ast.parse(source))) == expected


# tests that cannot fail ---------------------------------------------------------------------------------------------

CHECKS = {"raises", "warns", "fail"}  # pytest's


def called(node):
    """Names of all that is called, without what stands before a dot."""
    calls = [call.func for call in ast.walk(node) if isinstance(call, ast.Call)]
    return {func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls}


def asserts(function):
    """Whether it says itself what must hold: by assert, by pytest, by numpy.testing or unittest.mock."""
    names = called(function)
    return bool(
        names & CHECKS
        or any(name.startswith("assert_") for name in names)
        or any(isinstance(node, ast.Assert) for node in ast.walk(function))
    )


def helpers(tree):
    """Names of the functions of a file of tests, and of those that it has from others."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    others = [node.names for node in imports if (node.module or "").startswith("tests.")]
    return {function.name for function in functions(tree)} | {alias.name for names in others for alias in names}


def without_assertion(trees):
    """(file, test) of every test that asserts nothing, neither itself nor in a helper of the tests that it calls."""
    helping = {name: helpers(tree) for name, tree in trees.items()}
    calls = [(f, called(f) & helping[name]) for name, tree in trees.items() for f in functions(tree)]
    checking = {function.name for function, _ in calls if asserts(function)}
    while more := {f.name for f, names in calls if f.name not in checking and names & checking}:
        checking |= more
    for name, tree in trees.items():
        tests = [function for function in functions(tree) if function.name.startswith("test_")]
        known = helping[name] & checking
        yield from ((name, test.name) for test in tests if not asserts(test) and not called(test) & known)


def test_every_test_asserts_something():
    assert list(without_assertion(TESTS)) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def test_it(): run()", True),
        ("def run(): pass\ndef test_it(): run()", True),
        ("def test_it():\n    with contextlib.suppress(OSError):\n        run()", True),
        ("def test_it(): assert run()", False),
        ("def test_it():\n    with pytest.raises(OSError):\n        run()", False),
        ("def test_it(): np.testing.assert_array_equal(run(), 1)", False),
        ("def check(x): assert x\ndef run(): check(1)\ndef test_it(): run()", False),
        ("from tests.helpers.mutations import judge\ndef test_it(): judge(run)", False),
        ("from tsn_hw.app.check import judge\ndef test_it(): judge(run)", True),
    ],
)
def test_a_test_that_cannot_fail_is_found(source, found):
    trees = {"tests/f.py": ast.parse(source), "tests/helpers/mutations.py": ast.parse("def judge(x): assert x")}
    assert list(without_assertion(trees)) == [("tests/f.py", "test_it")] * found
