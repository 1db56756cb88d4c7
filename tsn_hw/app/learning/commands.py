"""Commands about runs and networks: train, show, simulate, verify."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.integer import Simulator
from tsn_hw.app.deploy.verification import verification_blocks
from tsn_hw.app.learning.contents import capacity_blocks, layer_table, task_table
from tsn_hw.app.output import Block, CommandResult, Note, Table, with_properties
from tsn_hw.app.output.result import EXIT_DIFFERENT
from tsn_hw.core import artifact
from tsn_hw.core.capacity import capacity
from tsn_hw.core.errors import DataError, SettingsError
from tsn_hw.core.files import read_bytes, write_atomically
from tsn_hw.core.gate import gates_of
from tsn_hw.core.network import PackedNetwork
from tsn_hw.learn.data.files import npy_numbers
from tsn_hw.learn.data.inputs import given

AUTO = "auto"
"""In place of a task: the one that the gate names."""


def train_run(settings_file: Path, folder: Path, device: str, resume: bool) -> CommandResult:
    """Learn every task of a settings file into a run's folder."""
    from tsn_hw.app.learning.runs import NETWORK, RunFolder
    from tsn_hw.learn.config import read_settings, stream_of
    from tsn_hw.learn.folder import snapshot_path
    from tsn_hw.learn.run import grown_from, train

    settings = read_settings(settings_file)
    stream = stream_of(settings)
    train(settings, stream, folder, device=device, resume=resume)
    metrics, net = RunFolder(folder).metrics(), folder / NETWORK
    data = {"network": str(net)} | metrics.to_json()
    rows = zip(stream.names, metrics.matrix[-1].tolist(), strict=True)
    blocks: list[Block] = [Table.of_rows(["task", "accuracy %"], list(rows))]
    told = f"ACC {metrics.acc:.2f} %, BWT {metrics.bwt}\n{net}: tsn-hw verify {net} compares all engines on it"
    blocks.append(Note(told))
    if earlier := grown_from(settings, folder):
        old = snapshot_path(folder, earlier - 1)
        data |= {"grown_from": earlier, "network_before": str(old)}
        told = (
            f"the first {earlier} tasks are byte for byte those of {old}; an accelerator of it that has room for "
            f"later tasks is brought up to date by\n"
            f"tsn-hw hls {net} --patch {old} --folding build/hls/folding.json -o build/patch"
        )
        blocks.append(Note(told))
    return CommandResult(blocks, data)


def show(path: Path) -> CommandResult:
    """Describe a network: banks, tasks, bits, sparsity, capacity, seals."""
    data, net = read_bytes(path), artifact.load(path)
    sizes = capacity(net, data)
    seals = {task.name: artifact.seal(net, number) for number, task in enumerate(net.tasks)}
    told = f"{path}: tasks {len(net.tasks)}, banks {len(net.banks)}, input {net.input_shape}, {net.input.bits} bits"
    tasks = task_table(net, sizes, "seal", [seal[:12] for seal in seals.values()])
    blocks = [Note(told), layer_table(net, sizes.layers), tasks, *capacity_blocks(sizes)]
    return CommandResult(blocks, with_properties(sizes) | {"seals": seals})


def simulate(path: Path, wanted: int | str, run: Path | None, source: Path | None) -> CommandResult:
    """Integer inference of one task: classes of an input file, or accuracy on a run's test data.

    The task ``auto`` is the one that the gate names for every input, where no task is called so.
    """
    net = artifact.load(path)
    if wanted == AUTO and AUTO not in [task.name for task in net.tasks]:
        from tsn_hw.app.learning.gate import measure_gate, name_inputs
        from tsn_hw.app.learning.runs import RunFolder

        gates_of(task.gate for task in net.tasks)
        if source is not None:
            return name_inputs(net, _inputs(net, source))
        return measure_gate(net, RunFolder(run or path.parent).stream)
    task = net.task_number(wanted)
    simulator = Simulator(net, task)
    classes = net.tasks[task].classes
    if source is not None:
        predicted = [classes[i] for i in simulator.predict(_inputs(net, source))]
        data = {"classes": predicted, "plan": [layer.summary() for layer in simulator.plan]}
        return CommandResult([Note("\n".join(predicted))], data)
    from tsn_hw.app.learning.metrics import accuracy
    from tsn_hw.app.learning.runs import RunFolder

    tested = RunFolder(run or path.parent).stream.task(task)
    if tested.classes != classes:
        raise SettingsError(f"task {task}: the run's classes {tested.classes} are not the network's {classes}")
    percent = accuracy(simulator, tested.x_test, tested.y_test)
    plan = [layer.summary() for layer in simulator.plan]  # as it is after the run: no kernel that proved wrong in it
    told = f"task {task} ({tested.name}): {percent:.2f} % of {len(tested.y_test)} test images"
    return CommandResult([Note(told)], {"task": task, "name": tested.name, "accuracy_percent": percent, "plan": plan})


def _inputs(net: PackedNetwork, source: Path) -> NDArray[np.integer]:
    """Integers for the network from an .npy file: pixels and floats are quantized, other integers taken as they are."""
    array = npy_numbers(source)
    shape = net.input_shape
    signal = (shape[0], *shape[2:]) if shape[1:2] == (1,) else shape  # whose height of 1 may be left out
    if array.shape in (shape, signal):
        array = array[None]
    if array.shape[1:] == signal:
        array = array.reshape(len(array), *shape)
    try:
        return given(array, net.input)
    except DataError as error:
        raise DataError(f"{source}: {error}") from error


def verify_network(
    path: Path,
    run: Path | None,
    samples: int,
    images: int,
    out: Path | None,
    rtl: tuple[Path, str | None] | None = None,
) -> CommandResult:
    """Compare every engine with every other; beside a run also on real images, with Brevitas and metrics.

    rtl: a folding file and the name of a simulator, None for the fastest; then that hardware runs too.
    """
    from tsn_hw.app.deploy.verify import verify, without_gates
    from tsn_hw.app.hardware.rtl import simulated_rtl
    from tsn_hw.app.learning.runs import SETTINGS, RunFolder

    net = artifact.load(path)
    if run is None and (path.parent / SETTINGS).is_file():
        run = path.parent
    beside = None if run is None else RunFolder(run)
    if beside is not None and artifact.to_bytes(beside.network) != artifact.to_bytes(without_gates(net)):
        raise SettingsError(f"{path}: is not the network of the run {run}")
    of_run: dict[str, Any] = {}
    if beside is not None:
        real = partial(beside.images, count=images)
        of_run = {"images": real, "brevitas": beside.brevitas(), "snapshots": beside.snapshots()}
    with nullcontext() if rtl is None else simulated_rtl(net, *rtl) as hardware:
        result = verify(net, samples=samples, rtl=hardware, **of_run)
    blocks = verification_blocks(result, [task.name for task in net.tasks])
    if beside is not None:
        metrics = beside.metrics()
        result = replace(result, metrics=metrics.to_json())
        fwt = "not measured" if metrics.fwt is None else f"{metrics.fwt:+.2f}"
        told = f"ACC {metrics.acc:.2f} %, BWT {metrics.bwt}, FWT {fwt} (measured now, from the stored networks)"
        blocks.append(Note(told))
    blocks.append(Note("all engines agree, all seals hold" if result.passed else "VERIFICATION FAILED"))
    if out is not None:
        write_atomically(out, (json.dumps(result.to_json(), indent=1) + "\n").encode())
    return CommandResult(blocks, result.to_json(), 0 if result.passed else EXIT_DIFFERENT)
