"""What the commands do: read, call one function, and tell the result as text and as data."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim.integer import Simulator
from tsn_hw.app.tables import capacity_table, table
from tsn_hw.core import artifact
from tsn_hw.core.arithmetic import quantize
from tsn_hw.core.capacity import Capacity, capacity
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.files import read_bytes, write_atomically
from tsn_hw.core.network import PackedNetwork
from tsn_hw.learn.data.files import npy_integers

if TYPE_CHECKING:
    from tsn_hw.app.deploy.verify import Verification
    from tsn_hw.app.learning.metrics import Metrics

Told = tuple[str, Any]


def train_run(settings_file: Path, folder: Path, device: str, resume: bool, quiet: bool) -> Told:
    """Learn every task of a settings file into a run's folder."""
    from tsn_hw.app.learning.runs import NETWORK, RunFolder
    from tsn_hw.learn.config import read_settings, stream_of
    from tsn_hw.learn.folder import snapshot_path
    from tsn_hw.learn.run import grown_from, train

    settings = read_settings(settings_file)
    stream = stream_of(settings)
    train(settings, stream, folder, device=device, resume=resume, quiet=quiet)
    metrics, net = RunFolder(folder).metrics(), folder / NETWORK
    data = {"network": str(net)} | metrics.to_json()
    rows = [[name, value] for name, value in zip(stream.names, metrics.matrix[-1].tolist(), strict=True)]
    text = f"{table(['task', 'accuracy %'], rows)}\n\nACC {metrics.acc:.2f} %, BWT {metrics.bwt}\n{net}"
    if earlier := grown_from(settings, folder):
        old = snapshot_path(folder, earlier - 1)
        data |= {"grown_from": earlier, "network_before": str(old)}
        text += (
            f"\n\nthe first {earlier} tasks are byte for byte those of {old}; an accelerator of it that has room for "
            f"later tasks is brought up to date by\n"
            f"tsn-hw hls {net} --patch {old} --folding build/hls/folding.json -o build/patch"
        )
    return text, data


def show(path: Path) -> Told:
    """Describe a network: banks, tasks, bits, sparsity, capacity, seals."""
    data, net = read_bytes(path), artifact.load(path)
    sizes = capacity(net, data)
    seals = [artifact.seal(net, task) for task in range(len(net.tasks))]
    layers: list[list[object]] = [
        [
            layer.bank,
            layer.layer,
            layer.weights,
            100 * layer.used / layer.weights,
            layer.bits / layer.weights,
            " ".join(map(str, layer.code_widths)),
        ]
        for layer in sizes.layers
    ]
    tasks: list[list[object]] = [
        [
            task.task,
            task.bank,
            len(net.tasks[t].classes),
            task.sparsity_percent,
            task.owned,
            task.used - task.owned,
            seals[t][:12],
        ]
        for t, task in enumerate(sizes.tasks)
    ]
    text = "\n\n".join(
        [
            f"{path}: tasks {len(net.tasks)}, banks {len(net.banks)}, input {net.input_shape}, {net.input.bits} bits",
            table(["bank", "layer", "weights", "used %", "bits per weight", "code bits by owner"], layers),
            table(["task", "bank", "classes", "sparsity %", "own weights", "shared weights", "seal"], tasks),
            capacity_table(sizes),
        ]
    )
    return text, _capacity_json(sizes) | {"seals": dict(zip([t.name for t in net.tasks], seals, strict=True))}


def _capacity_json(sizes: Capacity) -> dict[str, Any]:
    """All figures of a capacity, the derived ones included."""
    derived = [name for name in dir(Capacity) if isinstance(getattr(Capacity, name), property) and name != "body"]
    return asdict(sizes) | {name: getattr(sizes, name) for name in derived}


def simulate(path: Path, wanted: int | str, run: Path | None, source: Path | None) -> Told:
    """Integer inference of one task: classes of an input file, or accuracy on a run's test data."""
    net = artifact.load(path)
    task = net.task_number(wanted)
    simulator = Simulator(net, task)
    classes = net.tasks[task].classes
    if source is not None:
        predicted = [classes[i] for i in simulator.predict(_inputs(net, source))]
        return "\n".join(predicted), {"classes": predicted, "plan": [layer.summary() for layer in simulator.plan]}
    from tsn_hw.app.learning.metrics import accuracy
    from tsn_hw.app.learning.runs import RunFolder

    data = RunFolder(run or path.parent).stream.task(task)
    if data.classes != classes:
        raise SettingsError(f"task {task}: the run's classes {data.classes} are not the network's {classes}")
    percent = accuracy(simulator, data.x_test, data.y_test)
    plan = [layer.summary() for layer in simulator.plan]  # as it is after the run: no kernel that proved wrong in it
    text = f"task {task} ({data.name}): {percent:.2f} % of {len(data.y_test)} test images"
    return text, {"task": task, "name": data.name, "accuracy_percent": percent, "plan": plan}


def _inputs(net: PackedNetwork, source: Path) -> NDArray[np.integer]:
    """Integers for the network from an .npy file: images (uint8) are quantized, other integers taken as they are."""
    array = npy_integers(source)
    if array.shape == net.input_shape:
        array = array[None]
    return quantize(array / 256.0, net.input) if array.dtype == np.uint8 else array


def verify_network(
    path: Path,
    run: Path | None,
    samples: int,
    images: int,
    out: Path | None,
    rtl: Path | None = None,
    simulator: str | None = None,
) -> Told:
    """Compare every engine with every other; beside a run also on real images, with Brevitas and metrics.

    rtl: a folding file; then the hardware of that folding runs too, in a simulator of that name or the fastest.
    """
    from tsn_hw.app.deploy.verify import verify
    from tsn_hw.app.hardware.rtl import simulated_rtl
    from tsn_hw.app.learning.runs import SETTINGS, RunFolder

    net = artifact.load(path)
    if run is None and (path.parent / SETTINGS).is_file():
        run = path.parent
    beside = None if run is None else RunFolder(run)
    if beside is not None and artifact.to_bytes(beside.network) != artifact.to_bytes(net):
        raise SettingsError(f"{path}: is not the network of the run {run}")
    with nullcontext() if rtl is None else simulated_rtl(net, rtl, simulator) as hardware:
        if beside is None:
            result = verify(net, samples=samples, rtl=hardware)
        else:
            result = verify(
                net,
                lambda t: beside.images(t, images),
                beside.brevitas(),
                beside.snapshots(),
                samples,
                rtl=hardware,
            )
    metrics = None if beside is None else beside.metrics()
    data = result.to_json() | ({} if metrics is None else {"metrics": metrics.to_json()})
    if out is not None:
        write_atomically(out, (json.dumps(data, indent=1) + "\n").encode())
    return _verification_text(net, result, metrics), data


def _verification_text(net: PackedNetwork, result: Verification, metrics: Metrics | None) -> str:
    header = ["engine", "inputs", *(task.name for task in net.tasks), "differences"]
    rows = []
    for name, engine in result.engines.items():
        if engine.absent is not None:
            rows.append([name, "0", *["absent"] * len(net.tasks), engine.absent])
        else:
            digests = (engine.digests[task.name][:12] for task in net.tasks)
            rows.append([name, str(engine.inputs), *digests, str(engine.mismatches)])
    lines = [table(header, rows), ""]
    for name, engine in result.engines.items():
        if engine.tool is not None:
            cycles = ", ".join(map(str, engine.cycles.values()))
            lines.append(f"{name}: {engine.tool}; cycles of all inputs of a task: {cycles}")
    lines += [f"FIRST DIFFERENCE: {difference}" for difference in [result.first_difference()] if difference]
    lines += [f"BROKEN SEAL: task {name!r}" for name in result.broken_seals]
    lines += [f"CHANGED: {text}" for text in result.changed_snapshots]
    if metrics is not None:
        fwt = "not measured" if metrics.fwt is None else f"{metrics.fwt:+.2f}"
        lines.append(f"ACC {metrics.acc:.2f} %, BWT {metrics.bwt}, FWT {fwt} (measured now, from the stored networks)")
    lines.append("all engines agree, all seals hold" if result.passed else "VERIFICATION FAILED")
    return "\n".join(lines)
