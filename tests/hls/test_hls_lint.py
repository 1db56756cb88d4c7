"""Lint of C++ for synthesis: bad samples, each with the one rule that it breaks, and code that only looks bad."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from export.hls.project import project_files, rendered_files
from tests.helpers.cpp_lint import objects, rules
from tests.helpers.cpp_lint.objects import lint_objects
from tests.helpers.cpp_lint.pragmas import PRAGMAS, pragma_options
from tests.helpers.cpp_lint.rules import BANNED, lint
from tests.helpers.cpp_lint.source import declares, parameters, read_source
from tests.helpers.hls import design
from tests.helpers.images import settings
from tests.helpers.networks import Recipe
from tests.helpers.small_network import NET
from tsn_hw.core.errors import EngineError
from tsn_hw.hardware.pipeline import accelerator

SAMPLES = Path(__file__).parents[1] / "hls_samples"
TEXTS = sorted(path.name for path in SAMPLES.glob("*.cpp") if not path.name.startswith(("object_", "good")))
OBJECTS = sorted(path.name for path in SAMPLES.glob("object_*.cpp"))


def planted(name):
    """(line, rule) of what a sample breaks, as its comments say; on the first line: in the file as a whole."""
    lines = (SAMPLES / name).read_text().splitlines()
    found = ((number, re.search(r"// breaks ([\w-]+)", line)) for number, line in enumerate(lines, 1))
    return [(0 if number == 1 else number, rule[1]) for number, rule in found if rule]


def rules_of(module):
    """The rules that a module's docstring lists."""
    return set(re.findall(r"^([a-z]+(?:-[a-z]+)*)  +\S", module.__doc__, re.MULTILINE)) - {"rule"}


def compiled(name):
    if shutil.which("g++") is None or shutil.which("nm") is None:
        pytest.skip("g++ is not installed")
    return [(finding.line, finding.rule) for finding in lint_objects(SAMPLES, [SAMPLES / name])]


# samples ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEXTS)
def test_a_bad_sample_breaks_its_one_rule_in_its_line(name):
    found = lint({name: (SAMPLES / name).read_text()})
    assert len(planted(name)) == 1
    assert [(finding.line, finding.rule) for finding in found] == planted(name)


@pytest.mark.parametrize("name", OBJECTS)
def test_what_the_text_does_not_show_is_found_in_the_object(name):
    assert lint({name: (SAMPLES / name).read_text()}) == []
    assert compiled(name) == planted(name)


def test_every_rule_has_its_sample():
    broken = {rule for name in (*TEXTS, *OBJECTS) for _, rule in planted(name)}
    assert broken == rules_of(rules) | rules_of(objects)
    assert set(BANNED) <= rules_of(rules)


def test_code_that_only_looks_bad_is_left_alone():
    assert lint({name: (SAMPLES / name).read_text() for name in ("good.cpp", "good.hpp")}) == []


def test_code_that_only_looks_bad_compiles_without_a_finding():
    assert compiled("good.cpp") == []


# messages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pragma_name.cpp", "pragma_name.cpp:6: pragma-name: there is no pragma 'pipelin'"),
        ("pragma_option.cpp", "pragma_option.cpp:6: pragma-option: unroll has no option 'factr'"),
        ("pragma_option_missing.cpp", "pragma_option_missing.cpp:4: pragma-option: array_partition has no variable"),
        ("pragma_value.cpp", "pragma_value.cpp:4: pragma-value: array_partition: type does not take 'completely'"),
        ("pragma_value_of_flag.cpp", "pragma_value_of_flag.cpp:3: pragma-value: inline: off takes no value '2'"),
        (
            "pragma_variable.cpp",
            "pragma_variable.cpp:9: pragma-variable: array_partition: there is no variable 'buffer' in its function",
        ),
        ("pragma_port.cpp", "pragma_port.cpp:5: pragma-variable: interface: there is no port 'count' in its function"),
        ("pragma_outside.cpp", "pragma_outside.cpp:3: pragma-place: bind_storage stands outside of a function"),
        ("pragma_not_in_loop.cpp", "pragma_not_in_loop.cpp:3: pragma-place: unroll stands outside of a loop"),
        ("pragma_in_block.cpp", "pragma_in_block.cpp:5: pragma-place: interface stands inside of a block"),
        ("foreign_pragma.cpp", "foreign_pragma.cpp:4: foreign-pragma: 'omp parallel for'"),
        (
            "include_of_the_host.cpp",
            "include_of_the_host.cpp:2: include: <iostream> is neither of HLS nor of the project",
        ),
        ("dynamic_new.cpp", "dynamic_new.cpp:3: dynamic-memory: 'new'"),
    ],
)
def test_a_finding_says_file_line_rule_and_what_stands_there(name, message):
    assert [str(finding) for finding in lint({name: (SAMPLES / name).read_text()})] == [message]


def test_a_missing_compiler_is_said(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    with pytest.raises(EngineError, match=r"^g\+\+ is not installed: objects cannot be linted$"):
        lint_objects(SAMPLES, [SAMPLES / "good.cpp"])


# the exported project -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["constants", "loaded"])
def project(request, tmp_path_factory):
    """The folder of a project of every kind of unit, its memories constant, or written over the bus."""
    mask, style = ("deep", "block") if request.param == "constants" else ("runtime", "ultra")
    room = settings(NET, pe=2, simd=2, mask=mask)
    room = replace(room, units={name: replace(unit, ram_style=style) for name, unit in room.units.items()})
    folder = tmp_path_factory.mktemp(request.param)
    for path, content in project_files(accelerator(NET, room), []).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def texts_of(project):
    firmware = project / "firmware"
    files = sorted(path for path in firmware.rglob("*") if path.suffix in (".hpp", ".cpp"))
    return {path.relative_to(firmware).as_posix(): path.read_text() for path in files}


def test_an_exported_project_has_no_finding(project):
    files = texts_of(project)
    assert {"accelerator.cpp", "config.hpp", "tsn/matrix.hpp", "memories/u1_mix_words.hpp"} <= set(files)
    assert lint(files) == []


@pytest.mark.parametrize("mask", ["deep", "runtime"])
@pytest.mark.parametrize("kind", ["mlp", "conv", "residual"])
def test_the_firmware_of_random_networks_has_no_finding(kind, mask):
    for seed in range(2):
        made = design(Recipe(kind=kind, tasks=2, seed=seed, multipliers=bool(seed)), pe=1 + seed, simd=3, mask=mask)
        rendered = rendered_files(made)
        sources = {path: content.decode() for path, content in rendered.items() if "/memories/" not in path}
        assert lint(sources, [Path(path).stem for path in rendered.keys() - sources.keys()]) == []


def test_an_exported_project_compiles_without_a_finding(project):
    if shutil.which("g++") is None or shutil.which("nm") is None:
        pytest.skip("g++ is not installed")
    firmware = project / "firmware"
    assert lint_objects(firmware, [firmware / "accelerator.cpp"], [project / "csim"]) == []


@pytest.mark.parametrize(
    ("rule", "pattern", "spoilt"),
    [
        ("pragma-name", r"(#pragma HLS \w+)", r"\1X"),
        ("pragma-option", r"(#pragma HLS .*)", r"\1 X=1"),
        ("pragma-variable", r"(#pragma HLS .*)(variable|port)=\w+", r"\1\2=nobody"),
    ],
)
def test_every_pragma_of_a_project_is_judged(project, rule, pattern, spoilt):
    tables = {path.stem for path in (project / "firmware" / "memories").iterdir()}
    total = 0
    for name, text in texts_of(project).items():
        changed, count = re.subn(pattern, spoilt, text)
        if count:
            assert [finding.rule for finding in lint({name: changed}, tables)] == [rule] * count
            total += count
    assert total > 20


# files of one project -----------------------------------------------------------------------------------------------


def test_a_variable_may_stand_outside_of_functions_in_another_file_of_the_project():
    use = "int top(int x) {\n#pragma HLS BIND_STORAGE variable=words type=rom_1p impl=bram\n    return words[x];\n}\n"
    rom = "static const unsigned long long words[2] = {1, 2};\n"
    local = "int other() {\n    int words[2] = {1, 2};\n    return words[0];\n}\n"
    assert lint({"top.cpp": use, "words.hpp": rom}) == []
    assert [finding.rule for finding in lint({"top.cpp": use, "other.cpp": local})] == ["pragma-variable"]


def test_what_synthesis_does_not_see_is_not_judged():
    hidden = "#ifndef __SYNTHESIS__\n#include <vector>\nstd::vector<double> a;\n#else\nint b;\n#endif\n"
    assert lint({"a.hpp": hidden}) == []
    other = "#ifdef __SYNTHESIS__\nint b;\n#else\n#include <vector>\nstd::vector<double> a;\n#endif\n"
    assert lint({"a.hpp": other}) == []
    seen = hidden.replace("#ifndef __SYNTHESIS__", "#ifndef OTHER")
    assert [str(finding) for finding in lint({"a.hpp": seen})] == [
        "a.hpp:2: include: <vector> is neither of HLS nor of the project",
        "a.hpp:3: floating-point: 'double'",
        "a.hpp:3: standard-library: 'std::vector'",
    ]


# scopes and names ---------------------------------------------------------------------------------------------------


def scopes_of_pragmas(text):
    return [
        [scope.kind for scope in pragma.scope.outwards()] if pragma.scope else []
        for pragma in read_source("a", text).pragmas
    ]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("#pragma once", []),
        ("namespace a { struct b {\n#pragma x\n}; }", ["type", "namespace"]),
        ("void f(int a) {\n#pragma x\n}", ["function"]),
        ("template <class T, int N> T f(int (&a)[N]) {\n#pragma x\n}", ["function"]),
        ("struct a { bool operator()(int b) const {\n#pragma x\n} };", ["function", "type"]),
        ("void f() { for (int i = 0; i < 3; i++) {\n#pragma x\n} }", ["loop", "function"]),
        ("void f() { lanes: for (int i = 0; i < 3; i++) {\n#pragma x\n} }", ["loop", "function"]),
        ("void f() { do {\n#pragma x\n} while (0); }", ["loop", "function"]),
        ("void f() { if (a) {\n#pragma x\n} else { } }", ["block", "function"]),
        ("void f() { int a[2] = {1, 2}, b = 3;\n#pragma x\n}", ["function"]),
        ("const int a[2] = {f(1), 2};\nvoid f() {\n#pragma x\n}", ["function"]),
        ('extern "C" { void f() {\n#pragma x\n} }', ["function", "namespace"]),
        ("void f() { auto g = [&](int a) {\n#pragma x\n}; }", ["block", "function"]),
        ("enum a { B, C }; int f() {\n#pragma x\n}", ["function"]),
    ],
)
def test_a_pragma_is_found_in_its_scopes(text, kinds):
    assert scopes_of_pragmas(text) == [kinds]


def test_parameters_are_found_behind_templates_references_and_defaults():
    text = "template <class T, int (&W)[2]> void f(stream<uint<T::A * 2> > &in, const T (&x)[N], int n = g(1, 2)) {"
    scope = read_source("a", text + "\n#pragma x\n}").pragmas[0].scope
    assert parameters(scope) == {"T", "W", "in", "x", "n"}


def test_a_parameter_of_another_function_is_not_declared_in_this_one():
    other = "int f(int (&x)[4], int n);\nint g(int (&y)[4]) {\n    return y[0];\n}\n"
    for name in ("x", "n", "y"):
        use = f"int top(int z) {{\n#pragma HLS ARRAY_PARTITION variable={name}\n    return z;\n}}\n"
        assert [finding.rule for finding in lint({"a.cpp": other + use})] == ["pragma-variable"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("int a;", True),
        ("const hls::stream<int> a(3);", True),
        ("int b = 2, a[3];", True),
        ("int &a = b;", True),
        ("for (unsigned a = 0; ; )", True),
        ("b = a;", False),
        ("return a;", False),
        ("f(b, a);", False),
        ("c.a = 2;", False),
        ("int aa;", False),
    ],
)
def test_a_declaration_is_told_from_a_use(code, expected):
    assert declares(code, "a") == expected


def test_options_of_pragmas_are_those_of_the_guide_in_small_letters():
    assert all(name == name.lower() for name in PRAGMAS)
    assert all(set(rule.required) <= set(rule.options) for rule in PRAGMAS.values())
    assert pragma_options("II = 1 rewind") == [("II", "1"), ("rewind", "")]
