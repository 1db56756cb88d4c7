"""Gates: learning those of a stored network, and naming tasks with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim.gate import Gate, named_task
from sim.integer import Simulator
from tsn_hw.app.output import CommandResult, Note, Table
from tsn_hw.core import artifact
from tsn_hw.core.capacity import capacity
from tsn_hw.core.errors import SettingsError
from tsn_hw.core.network import PackedNetwork
from tsn_hw.learn.data.inputs import integers
from tsn_hw.learn.data.tasks import TaskData, TaskStream

if TYPE_CHECKING:
    from tsn_hw.learn.gates import GateSettings

TOGETHER = 20
"""Inputs of one task that are named together, beside single ones."""


def add_gates(path: Path, run: Path | None, out: Path, settings: GateSettings) -> CommandResult:
    """Write a network with gates that are learned from the training data of its run."""
    from tsn_hw.app.learning.runs import RunFolder
    from tsn_hw.learn.gates import learn_gates

    if out.resolve() == path.resolve():
        raise SettingsError(f"--out {out}: is the network itself; the run beside it would not know it any more")
    beside = RunFolder(run or path.parent)
    net = learn_gates(artifact.load(path), beside.stream, settings, beside.settings.seed)
    artifact.save(net, out)
    sizes = capacity(net)
    rows = [[task.task, task.gate_bits] for task in sizes.tasks]
    told = (
        f"{out}: gates take {sizes.gates_bits // 8} bytes, {sizes.gates_percent:.2f} % of {sizes.body_weights} float32 "
        f"weights of the body\ntsn-hw simulate {out} --task auto tells how often they are right"
    )
    data = {"network": str(out), "gates_bits": sizes.gates_bits, "gates_percent": sizes.gates_percent}
    return CommandResult([Table.of_rows(["task", "bits of its gate"], rows), Note(told)], data)


def name_inputs(net: PackedNetwork, x: NDArray[np.integer]) -> CommandResult:
    """The task of every input by the gate, and its class in that task."""
    tasks = Gate(net).predict(x)
    classes = np.zeros(len(x), np.int64)
    for task in np.unique(tasks).tolist():
        classes[tasks == task] = Simulator(net, task).predict(x[tasks == task])
    named = [{"task": net.tasks[t].name, "class": net.tasks[t].classes[c]} for t, c in zip(tasks, classes, strict=True)]
    return CommandResult([Note("\n".join(f"{entry['task']}: {entry['class']}" for entry in named))], {"inputs": named})


def measure_gate(net: PackedNetwork, stream: TaskStream) -> CommandResult:
    """How often the gate names the task of test inputs, and what that leaves of the accuracy of every task."""
    gate = Gate(net)
    found = [_measured(net, gate, number, stream.task(number)) for number in range(len(net.tasks))]
    sizes = capacity(net)
    columns = list(found[0])
    rows: list[list[Any]] = [list(entry.values()) for entry in found]
    known = {name: [entry[name] for entry in found if entry[name] is not None] for name in columns[2:]}
    mean = {name: float(np.mean(values)) if values else None for name, values in known.items()}
    rows.append(["mean", None, *mean.values()])
    header = ["task", "test inputs", "task given %", "task named %", f"by {TOGETHER} %", "right with the named task %"]
    told = f"gates: {sizes.gates_percent:.2f} % of the float32 body"
    data = {"tasks": found, "mean": mean, "gates_percent": sizes.gates_percent}
    return CommandResult([Table.of_rows(header, rows), Note(told)], data)


def _measured(net: PackedNetwork, gate: Gate, number: int, data: TaskData) -> dict[str, Any]:
    """Test accuracies in percent of one task; None where it has too few inputs to be named together."""
    x = integers(data.x_test, net.input)
    scores = gate(x)
    named, together = (named_task(scores, count) == number for count in (1, TOGETHER))
    right = Simulator(net, number).predict(x) == data.y_test
    return {
        "task": net.tasks[number].name,
        "inputs": len(x),
        "given_percent": 100 * float(right.mean()),
        "named_percent": 100 * float(named.mean()),
        "named_together_percent": 100 * float(together.mean()) if len(together) else None,
        "right_percent": 100 * float((named & right).mean()),
    }
