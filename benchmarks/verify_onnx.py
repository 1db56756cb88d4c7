"""Every integer of exported graphs on every engine, at scale: how many were compared, and that none differs.

    python benchmarks/verify_onnx.py [--old-python PYTHON] [--network FILE.tsn] [--random COUNT] [--quick]

Networks: random ones of tests/helpers/networks.py, every second of them with requantizations at the ends of what the
core allows; a three-task ResNet-18, a ten-task AlexNet, and a trained one if named (``tsn-hw demo`` writes
build/demo/net.tsn). Every task is written by itself, around the bank file and folded, a random one also in every form
that holds it; all that as it is exported, and once more with an output for every layer. All outputs must be the
integers of tsn_hw.core.reference on

* the simulator, and ONNX's reference evaluator (fewer inputs: it is slow),
* this onnxruntime, and the one of ``--old-python``, in processes of their own, with optimizations off, basic and all,
* this onnxruntime under ``valgrind --tool=none``, a processor without VNNI, for a sample of the files.

A random network is tried with its last task; the first hundred on all of these, the others on the simulator and this
onnxruntime.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from tqdm import tqdm  # noqa: E402

from benchmarks.nets import Numbers, random_alexnet, random_resnet18  # noqa: E402
from benchmarks.streams import stream_of  # noqa: E402
from export import onnx_graph  # noqa: E402
from export.onnx_graphs.bank import BANK_FILE, bank_file, bank_layout  # noqa: E402
from export.onnx_graphs.fold import folded  # noqa: E402
from export.onnx_graphs.graph import TAP, input_dtype  # noqa: E402
from export.onnx_graphs.plan import Form  # noqa: E402
from export.onnx_graphs.session import reference_evaluator  # noqa: E402
from sim.integer import Simulator  # noqa: E402
from tests.helpers.networks import Recipe, adversarial_inputs, random_network, recipes  # noqa: E402
from tsn_hw.core import artifact, reference  # noqa: E402
from tsn_hw.core.errors import ExportError  # noqa: E402
from tsn_hw.core.network import PackedNetwork  # noqa: E402

LAYOUTS = ("alone", "shared", "folded")
EVALUATED = ("alone", "shared")
"""Layouts that the reference evaluator sees: folding is proven by comparing the folded weights on onnxruntime."""
LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL")
RUN = """
import hashlib, json, pathlib, sys
import numpy, onnxruntime

digests = {}
for path in map(pathlib.Path, sys.stdin.read().split("\\n")):
    for level in sys.argv[1:]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        outputs = session.run(None, {"x": numpy.load(path.parent.parent / f"x_{path.stem[-2:]}.npy")})
        names = [output.name for output in session.get_outputs()]
        digests[f"{path} {level}"] = {n: hashlib.sha256(v.tobytes()).hexdigest() for n, v in zip(names, outputs)}
print(json.dumps({"onnxruntime": onnxruntime.__version__, "digests": digests}))
"""


@dataclass
class Folder:
    """Exported files, the network of each, and the digests that its outputs must have."""

    nets: dict[str, PackedNetwork] = field(default_factory=dict)
    expected: dict[str, dict[str, str]] = field(default_factory=dict)
    integers: dict[str, int] = field(default_factory=dict)
    """Outputs of every file, counted."""
    simulated: int = 0
    """Outputs of the simulator."""


def models(net: PackedNetwork, task: int, *, with_forms: bool) -> Iterator[tuple[str, bool, onnx.ModelProto]]:
    """(layout or form, whether it has an output for every layer, model) of a task."""
    layout = bank_layout(net)
    for taps in (False, True):
        alone = onnx_graph(net, task, taps=taps)
        yield "alone", taps, alone
        yield "shared", taps, onnx_graph(net, task, taps=taps, bank=layout)
        yield "folded", taps, folded(alone)
        for form in get_args(Form) if with_forms else ():
            with suppress(ExportError):  # no form holds everything
                yield form, taps, onnx_graph(net, task, taps=taps, form=form)


def export(net: PackedNetwork, folder: Path, tasks: Iterable[int], inputs: int, with_forms: bool, to: Folder) -> None:
    """Write tasks in all layouts, as exported and with an output for every layer; compare the simulator."""
    for task in tasks:
        x = adversarial_inputs(net, inputs, task)
        folder.mkdir(exist_ok=True)
        np.save(folder / f"x_{task:02d}.npy", x.astype(input_dtype(net)))
        layers = reference.run(net, task, x)
        simulated = Simulator(net, task).taps(x)
        for name, values in layers.items():
            np.testing.assert_array_equal(simulated[name], values, err_msg=f"simulator, task {task}, {name}")
        logits = list(layers.values())[-1]
        np.testing.assert_array_equal(Simulator(net, task)(x), logits, err_msg=f"simulator, task {task}")
        expected = {"logits": logits} | {f"{name}{TAP}": values for name, values in layers.items()}
        to.simulated += sum(value.size for value in expected.values())
        digests = {n: hashlib.sha256(values.astype(np.int32).tobytes()).hexdigest() for n, values in expected.items()}
        for kind, taps, model in models(net, task, with_forms=with_forms):
            path = folder / kind / f"{'taps' if taps else 'task'}_{task:02d}.onnx"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(model.SerializeToString())
            outputs = list(expected) if taps else ["logits"]
            to.nets[str(path)] = net
            to.expected[str(path)] = {name: digests[name] for name in outputs}
            to.integers[str(path)] = sum(expected[name].size for name in outputs)
    (folder / "shared" / BANK_FILE).write_bytes(bank_file(net, bank_layout(net)))


def run(interpreter: Sequence[str], files: Iterable[str]) -> tuple[str, dict[str, dict[str, str]]]:
    """The version of an interpreter's onnxruntime, and the digests of the outputs of files at every level."""
    command = [*interpreter, "-c", RUN, *LEVELS]
    done = subprocess.run(command, input="\n".join(files), check=True, capture_output=True, text=True)
    told = json.loads(done.stdout)
    return told["onnxruntime"], told["digests"]


def compare_onnxruntime(name: str, interpreter: Sequence[str], folder: Folder, files: Iterable[str]) -> tuple[str, int]:
    """Compare files on the onnxruntime of an interpreter; gives its name and the number of integers."""
    files = list(files)
    version, digests = run(interpreter, files)
    for file, level in itertools.product(files, LEVELS):
        found = digests[f"{file} {level}"]
        different = [output for output, digest in folder.expected[file].items() if found[output] != digest]
        if different:
            raise SystemExit(f"{name} {version}, {level}, {file}: other integers in {', '.join(different)}")
    return f"{name} {version}", len(LEVELS) * sum(folder.integers[file] for file in files)


def compare_evaluator(folder: Folder, inputs: int) -> tuple[str, int]:
    """Compare all files on ONNX's reference evaluator, with the first inputs of each."""
    count = 0
    for file, net in ((Path(file), net) for file, net in folder.nets.items()):
        if file.parent.name not in EVALUATED:
            continue
        task = int(file.stem[-2:])
        x = np.load(file.parent.parent / f"x_{task:02d}.npy")[:inputs]
        layers = reference.run(net, task, x.astype(np.int64))
        expected = {"logits": list(layers.values())[-1]} | {f"{name}{TAP}": value for name, value in layers.items()}
        evaluator = reference_evaluator(onnx.load(file))
        with np.errstate(invalid="ignore"):  # its max pooling pads integers with NaN on the way
            outputs = dict(zip(evaluator.output_names, evaluator.run(None, {"x": x}), strict=True))
        for name, values in outputs.items():
            np.testing.assert_array_equal(values, expected[name], err_msg=f"reference evaluator, {file}, {name}")
            count += values.size
    return f"reference evaluator {onnx.__version__}", count


@dataclass(frozen=True)
class Effort:
    """With how many inputs an engine is tried.

    old_python: an interpreter with an older onnxruntime; emulated: files for valgrind; with_forms: the last task alone,
    in every form too.
    """

    inputs: int
    evaluator_inputs: int = 0
    old_python: str | None = None
    emulated: int = 0
    with_forms: bool = False


def verify(nets: Sequence[PackedNetwork], scratch: Path, effort: Effort) -> Counter[str]:
    """Compare all engines on networks; gives the number of integers an engine."""
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        folder = Folder()
        for number, net in enumerate(nets):
            tasks = range(len(net.tasks))[-1:] if effort.with_forms else range(len(net.tasks))
            export(net, Path(name) / str(number), tasks, effort.inputs, effort.with_forms, folder)
        files = list(folder.expected)
        counts = Counter({"simulator": folder.simulated})
        interpreters = {"onnxruntime": [sys.executable]}
        if effort.old_python is not None:
            interpreters["the old onnxruntime"] = [effort.old_python]
        for label, interpreter in interpreters.items():
            engine, integers = compare_onnxruntime(label, interpreter, folder, files)
            counts[engine] += integers
        valgrind = shutil.which("valgrind")
        if valgrind is not None and effort.emulated:
            command = [valgrind, "-q", "--tool=none", sys.executable]
            engine, integers = compare_onnxruntime(
                "without VNNI, onnxruntime", command, folder, files[-effort.emulated :]
            )
            counts[engine] += integers
        if effort.evaluator_inputs:
            engine, integers = compare_evaluator(folder, effort.evaluator_inputs)
            counts[engine] += integers
    return counts


def random_recipes(count: int) -> list[Recipe]:
    """The first examples of the tests' strategy, the same in every run."""
    drawn: list[Recipe] = []

    @seed(0)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(recipes())
    def draw(recipe: Recipe) -> None:
        drawn.append(recipe)

    draw()
    return drawn[:count]


def networks(options: argparse.Namespace) -> Iterator[tuple[str, list[PackedNetwork], Effort]]:
    """Name, some networks, and how many inputs and files they are tried with."""
    slow = Effort(8, evaluator_inputs=2, emulated=20, old_python=options.old_python)
    for path in options.network:
        yield str(path), [artifact.load(path)], replace(slow, inputs=64)
    drawn = random_recipes(20 if options.quick else options.random)
    for start in range(0, len(drawn), 100):
        recipes = [replace(recipe, extremes=bool(i % 2)) for i, recipe in enumerate(drawn[start : start + 100])]
        effort = replace(slow if start == 0 else Effort(8), with_forms=True)
        yield "random networks", [random_network(recipe) for recipe in recipes], effort
    large = replace(slow, evaluator_inputs=1, emulated=2)
    streams = {
        "ResNet-18 with batch norms, 3 tasks": lambda: stream_of(random_resnet18(), 3),
        "AlexNet with batch norms, 10 tasks": lambda: stream_of(random_alexnet(Numbers(multiplier_bits=12)), 10),
    }
    for name, stream in streams.items():
        net = stream()
        yield name, [net.first_tasks(1) if options.quick else net], large


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old-python", help="an interpreter that has an older onnxruntime, such as 1.17")
    parser.add_argument("--network", type=Path, action="append", default=[], help="also a trained network, a .tsn file")
    parser.add_argument("--random", type=int, default=2000, help="random networks (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a hundredth of it all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for name, group in itertools.groupby(networks(options), key=lambda network: network[0]):
            counts: Counter[str] = Counter()
            total = 0
            for _, nets, effort in tqdm(group, desc=name, leave=False):
                counts.update(verify(nets, Path(scratch), effort))
                total += len(nets)
            lines = [f"  {engine:40} {integers:15,} integers" for engine, integers in counts.items()]
            print(f"{name}: {total} networks, 0 integers differ", *lines, sep="\n", flush=True)


if __name__ == "__main__":
    main()
