"""Every engine against the int64 loop, integer by integer, and the proof that no task was forgotten.

From a ``.tsn`` file alone: random and adversarial integers through the simulator, onnxruntime, the ONNX reference
evaluator, the compiled C++ of the accelerator, and C for microcontrollers here and on a Cortex-M4 in qemu. Beside the
training run that made it: the real test images too, Brevitas from the checkpoint, the networks as they stood after
each task, and accuracies measured again from them.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from export.c_code.host import HOST, CompiledC
from export.c_code.machines import Machine, cortex_m
from export.hls.csim import compiled, fast_settings
from sim.gate import Gate
from sim.integer import Simulator
from tsn_hw.app.deploy.verification import REFERENCE, EngineResult, LayerResult, TaskResult, Verification
from tsn_hw.core import artifact, reference
from tsn_hw.core.arithmetic import Ints
from tsn_hw.core.errors import ArtifactError, EngineError, ExportError
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.pipeline import accelerator, obstacles
from tsn_hw.learn.data.inputs import integers
from tsn_hw.learn.progress import progress

RANDOM_SAMPLES = 64
RTL_STALLS = {"rtl": 0, "rtl with stalls": 40}
"""Engine -> how often in a hundred cycles each stream of the simulated hardware stands still."""
SLOW_ENGINES = {"onnx reference": 16, "c-arm": 16, "rtl": 16, "rtl with stalls": 16}
"""How many inputs a task the ONNX reference evaluator sees, which runs in Python, and what is simulated."""

GATE = ":gate"
"""What the scores of all gates are called beside the layers of a task: no layer is called so."""

Engine = Callable[[int, Ints], dict[str, Ints]]
"""(task, inputs) -> the integers of every layer that the engine shows, by name; always the head's."""


@dataclass(frozen=True)
class SimulatedRtl:
    """Hardware in a simulator.

    tool: name and version of the simulator. run: (task, inputs, percentage of stalls) -> the integers of every layer,
    as of an engine, and the cycles that all inputs together took.
    """

    tool: str
    run: Callable[[int, Ints, int], tuple[dict[str, Ints], int]]


def verify(
    net: PackedNetwork,
    images: Callable[[int], np.ndarray] | None = None,
    brevitas: Engine | str = "no checkpoint beside the network",
    snapshots: dict[int, bytes] | None = None,
    samples: int = RANDOM_SAMPLES,
    rtl: SimulatedRtl | str | None = None,
) -> Verification:
    """Compare all engines with the int64 loop on every task.

    ``images(task)`` gives real test images (uint8); ``brevitas`` is the trained model as an engine, or why it is
    absent; ``snapshots`` are the files written after each number of tasks; ``rtl`` is simulated hardware, or why it is
    absent.
    """
    results, engines = _engines(net, brevitas, rtl)
    gates = {} if net.tasks[0].gate is None else _gate_engines(net, engines)
    seen = {"adversarial": samples, "real": 0}
    for number, task in enumerate(progress(net.tasks, "verify")):
        x = adversarial_integers(net, samples, seed=number)
        if images is not None:
            real = integers(images(number), net.input)
            seen["real"] = max(seen["real"], len(real))
            x = np.concatenate([x, real])
        truth = reference.run(net, number, x)
        if gates:
            truth = {GATE: reference.gate_scores(net, x)} | truth
        _record(results[REFERENCE], task.name, truth, truth)
        for name, engine in engines.items():
            used = slice(0, SLOW_ENGINES.get(name))
            wanted = {layer: values[used] for layer, values in truth.items()}
            scores = {GATE: gates[name](x[used])} if name in gates else {}
            _record(results[name], task.name, wanted, scores | engine(number, x[used]))
    net_of_run = without_gates(net)
    changed = changed_snapshots(net_of_run, snapshots or {})
    told = [f"the first {count} tasks are not the network that was written after task {count - 1}" for count in changed]
    network = hashlib.sha256(artifact.to_bytes(net)).hexdigest()
    return Verification.of(network, results, _broken_seals(net_of_run, changed.values()), told, seen)


def _engines(
    net: PackedNetwork, brevitas: Engine | str, rtl: SimulatedRtl | str | None
) -> tuple[dict[str, EngineResult], dict[str, Engine]]:
    """The results of all engines, empty as yet, and the engines that are there."""
    known: dict[str, Engine | str] = {
        "brevitas": brevitas,
        "simulator": lambda task, x: dict(Simulator(net, task).taps(x)),  # type: ignore[arg-type]
        **_onnx_engines(net),
        "hls": _hls(net),
        "c": _c(net, HOST),
        "c-arm": _c(net, cortex_m("mps2-an386")),
    }
    if isinstance(rtl, str):
        known["rtl"] = rtl
    results = {REFERENCE: EngineResult()}
    results |= {name: EngineResult(engine if isinstance(engine, str) else None) for name, engine in known.items()}
    if isinstance(rtl, SimulatedRtl):
        for name, stalls in RTL_STALLS.items():
            results[name] = EngineResult(tool=rtl.tool)
            known[name] = _simulated(net, rtl, stalls, results[name])
    return results, {name: engine for name, engine in known.items() if not isinstance(engine, str)}


def adversarial_integers(net: PackedNetwork, count: int, seed: int) -> Ints:
    """Integers of the input format: random, all lowest, all highest, alternating extremes, single extremes."""
    low, high = net.input.range
    x = np.random.default_rng(seed).integers(low, high + 1, (count, *net.input_shape))
    flat = x.reshape(count, -1)
    checker = np.where(np.arange(flat.shape[1]) % 2, low, high)
    extremes = [np.full_like(checker, low), np.full_like(checker, high), checker, low + high - checker]
    flat[:4] = extremes[: len(flat)]
    for row, place in zip(flat[4:12], range(flat.shape[1]), strict=False):
        row[:] = 0
        row[place] = high
    return x


def changed_snapshots(net: PackedNetwork, snapshots: Mapping[int, bytes]) -> dict[int, bytes]:
    """The files, by number of tasks, that are not those of the network as it stood after so many."""
    left = dict(snapshots)
    for count, then in enumerate(artifact.after_each_task(net) if left else (), start=1):
        if count in left and artifact.renewed(left[count]) == then:
            del left[count]
    return left


def _broken_seals(net: PackedNetwork, changed: Iterable[bytes]) -> list[str]:
    """The tasks that read today what they did not read in one of these files, in which others are as they were."""
    seals = {task.name: artifact.seal(net, number) for number, task in enumerate(net.tasks)}
    broken = set()
    for written in changed:
        with suppress(ArtifactError):  # a damaged file is told as a changed one, and has no seals
            then = artifact.from_bytes(written)
            broken |= {task.name for t, task in enumerate(then.tasks) if seals.get(task.name) != artifact.seal(then, t)}
    return sorted(broken)


def _onnx_engines(net: PackedNetwork) -> dict[str, Engine | str]:
    missing = [package for package in ("onnx", "onnxruntime") if importlib.util.find_spec(package) is None]
    if missing:
        return dict.fromkeys(("onnxruntime", "onnx reference"), f"not installed: {', '.join(missing)}")
    return {"onnxruntime": _onnxruntime(net), "onnx reference": _onnx_reference(net)}


def without_gates(net: PackedNetwork) -> PackedNetwork:
    """The network as its run wrote it, before it was given gates."""
    return replace(net, tasks=tuple(replace(task, gate=None) for task in net.tasks))


def _gate_engines(net: PackedNetwork, engines: Mapping[str, Engine]) -> dict[str, Callable[[Ints], Ints]]:
    """What computes the scores (batch, tasks) of all gates, by the name of the engine."""
    found: dict[str, Callable[[Ints], Ints]] = {"simulator": Gate(net)}
    if "onnxruntime" in engines:
        from export.onnx_graphs.gate import gate_graph
        from export.onnx_graphs.graph import input_dtype
        from export.onnx_graphs.session import reference_evaluator, run_graph

        model, dtype = gate_graph(net), input_dtype(net)
        content = model.SerializeToString()
        found["onnxruntime"] = lambda x: run_graph(content, {"x": x.astype(dtype)}, ["logits"])[0]
        evaluator = reference_evaluator(model)
        found["onnx reference"] = lambda x: np.array(evaluator.run(["logits"], {"x": x.astype(dtype)}))[0]
    return found


def _onnxruntime(net: PackedNetwork) -> Engine:
    """The plain graph gives the logits; a copy with an output a layer gives all other integers."""
    import onnxruntime

    from export.onnx_graphs.graph import TAP, input_dtype, onnx_graph

    def run(task: int, x: Ints) -> dict[str, Ints]:
        typed = x.astype(input_dtype(net))
        outputs: dict[str, Ints] = {}
        for taps in (True, False):
            model = onnx_graph(net, task, taps=taps).SerializeToString()
            session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
            names = [output.name for output in session.get_outputs()]
            outputs |= dict(zip(names, session.run(names, {"x": typed}), strict=True))
        head = net.layers[net.head(task)].name
        layers = {name.removesuffix(TAP): values for name, values in outputs.items() if name.endswith(TAP)}
        return layers | {head: outputs["logits"]}  # of the plain graph, which ran last

    return run


def _onnx_reference(net: PackedNetwork) -> Engine:
    from export.onnx_graphs.graph import TAP, input_dtype, onnx_graph
    from export.onnx_graphs.session import reference_evaluator

    def run(task: int, x: Ints) -> dict[str, Ints]:
        evaluator = reference_evaluator(onnx_graph(net, task, taps=True))
        with np.errstate(invalid="ignore"):  # its max pooling pads integers with NaN on the way
            values = evaluator.run(None, {"x": x.astype(input_dtype(net))})
        outputs = dict(zip(evaluator.output_names, values, strict=True))
        return {name.removesuffix(TAP): value for name, value in outputs.items() if name.endswith(TAP)}

    return run


def _simulated(net: PackedNetwork, rtl: SimulatedRtl, stalls: int, result: EngineResult) -> Engine:
    """Simulated hardware as an engine that notes its cycles in a result."""

    def run(task: int, x: Ints) -> dict[str, Ints]:
        layers, result.cycles[net.tasks[task].name] = rtl.run(task, x, stalls)
        return layers

    return run


def _hls(net: PackedNetwork) -> Engine | str:
    """The C++ of the accelerator, compiled: what each of its units sends."""
    problems = obstacles(net)
    if problems:
        return f"no accelerator: {problems[0]}"
    try:
        return compiled(accelerator(net, fast_settings(net))).run
    except EngineError as error:
        return str(error)


def _c(net: PackedNetwork, machine: Machine) -> Engine | str:
    """C for microcontrollers, compiled for a machine."""
    engine = CompiledC(net, machine=machine)
    try:
        engine.compile()
    except (EngineError, ExportError) as error:
        return str(error)
    return engine.run


def _record(result: EngineResult, task: str, wanted: dict[str, Ints], got: dict[str, Ints]) -> None:
    digest = hashlib.sha256()
    layers: dict[str, LayerResult] = {}
    for name, values in wanted.items():
        if name not in got:
            continue
        digest.update(np.ascontiguousarray(got[name], dtype="<i8").tobytes())
        layers[name] = compare(values, got[name])
    head = list(wanted)[-1]
    if head not in layers:
        raise EngineError(f"task {task!r}: an engine gave no integers for the head {head!r}")
    result.inputs = max(result.inputs, len(wanted[head]))
    result.tasks[task] = TaskResult(digest.hexdigest(), layers)
    result.mismatches += sum(layer.mismatches for layer in layers.values())


def compare(wanted: Ints, got: Ints) -> LayerResult:
    """Compare two arrays of integers of the same layer."""
    if wanted.shape != got.shape:
        return LayerResult(wanted.size, max(1, wanted.size), f"shape {got.shape} instead of {wanted.shape}")
    different = np.argwhere(wanted != got)
    if not len(different):
        return LayerResult(wanted.size)
    place = tuple(int(i) for i in different[0])
    first = f"{int(got[place])} instead of {int(wanted[place])} at {place}"
    return LayerResult(wanted.size, len(different), first)
