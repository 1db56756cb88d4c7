"""The plan of the house, kept by reading the source: who may import whom, and what nobody may write."""

import ast
import builtins
import graphlib
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from tsn_hw.core import errors

ROOT = Path(__file__).parent.parent
FILES = sorted(path for folder in ("tsn_hw", "export", "sim") for path in (ROOT / folder).rglob("*.py"))
MAY_SEE = {  # room -> the rooms below it, and itself
    "tsn_hw.core": {"tsn_hw.core"},
    "tsn_hw.hardware": {"tsn_hw.core", "tsn_hw.hardware"},
    "tsn_hw.learn": {"tsn_hw.core", "tsn_hw.learn"},
    "export": {"tsn_hw.core", "tsn_hw.hardware", "export"},
    "sim": {"tsn_hw.core", "tsn_hw.hardware", "sim"},
    "tsn_hw.app": {"tsn_hw", "tsn_hw.core", "tsn_hw.hardware", "tsn_hw.learn", "export", "sim", "tsn_hw.app"},
    "tsn_hw.__main__": {"tsn_hw.app"},  # the command line
    "tsn_hw": {"tsn_hw.core"},  # the public face
}
WITHOUT_TORCH = ("tsn_hw.core", "tsn_hw.hardware")
CORE_PACKAGES = {"numpy", "bitarray", "safetensors"}
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
SAFE_OF_JOBLIB = {"Parallel", "delayed"}  # the rest of it writes and reads pickles
ROUNDING = {f"np.{name}" for name in ("round", "around", "rint", "fix", "clip")}
OWN_ERRORS = {name for name, kind in vars(errors).items() if inspect.isclass(kind)}
# beyond our own: what Python's protocols and the command line ask for
RAISABLE = OWN_ERRORS | {"AttributeError", "StopIteration", "SystemExit", "KeyboardInterrupt"}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}
TREES = {name: ast.parse(path.read_text(), str(path)) for name, path in MODULES.items()}


def room_of(module):
    return next(room for room in MAY_SEE if module == room or module.startswith(room + "."))


def imports(tree, module):
    """Absolute names of all modules that a file imports: inside functions and for type checkers alone too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names)


def own_imports(module):
    found = imports(TREES[module], module)
    return {name for name in found if name.partition(".")[0] in ("tsn_hw", "export", "sim")}


# who sees whom ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", TREES)
def test_imports_point_downwards(module):
    seen = {name: room_of(name) for name in own_imports(module)}
    assert {name for name, room in seen.items() if room not in MAY_SEE[room_of(module)]} == set()


@pytest.mark.parametrize("module", [module for module in TREES if room_of(module) in WITHOUT_TORCH])
def test_the_core_needs_nothing_but_numpy_and_two_small_packages(module):
    packages = {name.partition(".")[0] for name in imports(TREES[module], module)}
    assert packages - sys.stdlib_module_names - {"tsn_hw"} <= CORE_PACKAGES


def test_no_modules_import_one_another_in_a_circle():
    sees = {module: own_imports(module) - {module} for module in TREES}
    assert set(graphlib.TopologicalSorter(sees).static_order()) == set(TREES)  # a circle has no order


def test_importing_the_packages_loads_no_heavy_library():
    code = (
        "import sys, tsn_hw, tsn_hw.learn, export, sim\n"
        "print(sorted({'torch', 'brevitas', 'onnxruntime', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_imports_are_found_in_every_form():
    source = "import sim.integer as engine\ndef f():\n    from . import arithmetic\n    from .errors import TsnError"
    assert set(imports(ast.parse(source), "tsn_hw.core.network")) == {
        "sim.integer",
        "tsn_hw.core.arithmetic",
        "tsn_hw.core.errors",
    }


# what nobody writes -------------------------------------------------------------------------------------------------


def offences(tree):
    """(line, rule) for everything in a file that the style guide rules out."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                unsafe = {alias.name.partition(".")[0] for alias in names} & UNSAFE_MODULES
                yield from ((node.lineno, f"import of {name}") for name in sorted(unsafe))
            case ast.ImportFrom(module="joblib", names=names) if {alias.name for alias in names} <= SAFE_OF_JOBLIB:
                pass
            case ast.ImportFrom(module=str(name)) if name.partition(".")[0] in UNSAFE_MODULES:
                yield node.lineno, f"import of {name.partition('.')[0]}"
            case ast.Call(func=func, keywords=keywords):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in keywords}
                if ast.unparse(func) == "torch.load" and given.get("weights_only") != "True":
                    yield node.lineno, "torch.load without weights_only=True"
                if given.get("allow_pickle", "False") != "False":
                    yield node.lineno, "allow_pickle"
            case ast.ExceptHandler(type=caught, body=[*_, last]) if not (
                isinstance(last, ast.Raise) and last.exc is None
            ):
                names = {"all"} if caught is None else {ast.unparse(part) for part in getattr(caught, "elts", [caught])}
                broad = sorted(names & {"all", "Exception", "BaseException"})
                yield from ((node.lineno, f"except {name} that swallows") for name in broad)
            case ast.Raise(exc=ast.Call(func=ast.Name(id=name)) | ast.Name(id=name)) if is_builtin_error(name):
                yield node.lineno, f"raise {name}"


def is_builtin_error(name):
    kind = getattr(builtins, name, None)
    return inspect.isclass(kind) and issubclass(kind, BaseException) and name not in RAISABLE


def roundings(tree):
    """(line, call) of every numpy call that rounds or saturates."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [(node.lineno, ast.unparse(node.func)) for node in calls if ast.unparse(node.func) in ROUNDING]


@pytest.mark.parametrize("module", TREES)
def test_a_file_keeps_the_style_guide(module):
    assert list(offences(TREES[module])) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import pickle", "import of pickle"),
        ("import joblib", "import of joblib"),
        ("from joblib import Parallel, load", "import of joblib"),
        ("from joblib.externals import cloudpickle", "import of joblib"),
        ("torch.load(path)", "torch.load without weights_only=True"),
        ("torch.load(path, weights_only=False)", "torch.load without weights_only=True"),
        ("np.load(path, allow_pickle=True)", "allow_pickle"),
        ("try: pass\nexcept: pass", "except all that swallows"),
        ("try: pass\nexcept Exception: pass", "except Exception that swallows"),
        ("try: pass\nexcept (OSError, BaseException) as error: pass", "except BaseException that swallows"),
        ("raise ValueError('no')", "raise ValueError"),
        ("raise Exception", "raise Exception"),
    ],
)
def test_what_the_style_guide_rules_out_is_found(source, expected):
    assert [rule for _, rule in offences(ast.parse(source))] == [expected]


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path, weights_only=True)",
        "np.load(path, allow_pickle=False)",
        "from joblib import Parallel, delayed",
        "try: pass\nexcept (OSError, ValueError): raise",
        "try: pass\nexcept BaseException:\n    clean_up()\n    raise",
        "raise NetworkError('place, rule and value')",
        "raise AttributeError(name)",
    ],
)
def test_what_the_style_guide_allows_is_left_alone(source):
    assert list(offences(ast.parse(source))) == []


@pytest.mark.parametrize(
    "module", [m for m in TREES if room_of(m) not in ("tsn_hw.learn", "tsn_hw.app") and m != "tsn_hw.core.arithmetic"]
)
def test_only_arithmetic_rounds_or_saturates_arrays(module):
    assert roundings(TREES[module]) == []


def test_rounding_is_found():
    assert roundings(ast.parse("x = 1\ny = np.clip(np.rint(x), 0, 1)")) == [(2, "np.clip"), (2, "np.rint")]


# the public face ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", [name for name, path in MODULES.items() if path.name == "__init__.py"])
def test_a_package_lists_every_name_that_it_gives_and_gives_every_name_that_it_lists(package):
    module = importlib.import_module(package)
    listed = getattr(module, "__all__", [])
    ours = {name for name, value in vars(module).items() if is_ours(value) and not name.startswith("_")}
    assert ours <= set(listed)
    assert [name for name in listed if not hasattr(module, name)] == []
    assert list(listed) == sorted(listed)


def is_ours(value):
    return str(getattr(value, "__module__", "")).partition(".")[0] in ("tsn_hw", "export", "sim")


@pytest.mark.parametrize("package", ["tsn_hw", "export", "sim"])
def test_a_package_tells_type_checkers_that_it_is_typed(package):
    assert (ROOT / package / "py.typed").is_file()


def test_every_error_is_a_tsn_error_and_stands_in_the_tree():
    assert all(issubclass(getattr(errors, name), errors.TsnError) for name in OWN_ERRORS)
    assert all(name in errors.__doc__ for name in OWN_ERRORS)
