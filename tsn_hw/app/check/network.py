"""Whether a model can be trained, exported and built: every reason against it at once, before any long work.

A ``.tsn`` file is held against every back end. Of a settings file (``.toml``) the settings, the data and the body that
they ask for are checked, and a network of that size, drawn at random, is held against the back ends. Of an ``.onnx``
model of another tool every operator is.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

from sim.resources import RESOURCE_NAMES, capacities, estimate_resources
from tsn_hw.app.hardware.choose import HardwareRequest, choose
from tsn_hw.app.hardware.platform import Platform
from tsn_hw.app.output import Block, CommandResult, Note, Table
from tsn_hw.app.output.result import EXIT_DIFFERENT
from tsn_hw.core import artifact
from tsn_hw.core.errors import ExportError, FoldingError, SettingsError, TsnError, shown
from tsn_hw.core.files import read_bytes
from tsn_hw.core.layers import INPUT, Conv2d, Layer, Linear, Shape, Weighted
from tsn_hw.core.network import PackedNetwork
from tsn_hw.core.records import build, read_toml
from tsn_hw.hardware.folding import HardwareSettings, MaskMode
from tsn_hw.hardware.pipeline import least_accelerator, obstacles, refold

if TYPE_CHECKING:
    from export.qonnx_graphs.files import Flavour
    from tsn_hw.learn.architectures import Architecture
    from tsn_hw.learn.settings import Settings

T = TypeVar("T")


QONNX: dict[str, Flavour] = {"qonnx quant": "quant", "qonnx multithreshold": "multithreshold"}


@dataclass(frozen=True)
class Checked:
    """What a check found.

    problems: by the part or back end that they stand against; a key without problems was checked and is fine. Those
    against the flavours of QONNX, a format for other tools, do not count against the model.
    """

    title: str
    records: Sequence[dict[str, Any]]
    problems: Mapping[str, Sequence[str]]
    notes: Sequence[str] = ()

    @property
    def is_supported(self) -> bool:
        """Nothing stands against it."""
        return not any(found for part, found in self.problems.items() if part not in QONNX)

    def result(self) -> CommandResult:
        """Table, then what is wrong and what to change, then whether it will do."""
        told = []
        for part, found in self.problems.items():
            heading = f"{part}: {'no problem' if not found else f'{len(found)} to change'}"
            told.append("\n  - ".join([heading, *found]))
        missing = [part for part, found in self.problems.items() if found and (part in QONNX) == self.is_supported]
        verdict = f"supported{', but not by ' if missing else ''}" if self.is_supported else "NOT SUPPORTED AS IT IS: "
        notes = [Note(text) for text in [*told, "\n".join(self.notes), verdict + " and ".join(missing)]]
        data = {
            "supported": self.is_supported,
            "title": self.title,
            "rows": list(self.records),
            "problems": {part: list(found) for part, found in self.problems.items()},
            "notes": list(self.notes),
        }
        blocks: list[Block] = [Note(self.title), Table(self.records), *notes]
        return CommandResult(blocks, data, 0 if self.is_supported else EXIT_DIFFERENT)


def check_model(path: Path, platform: Platform) -> Checked:
    """Check a .tsn, .toml or .onnx file, by the end of its name; ``platform`` is what hardware is sized for."""
    readers: dict[str, Callable[[Path], Checked]] = {
        ".tsn": lambda path: check_artifact(path, platform),
        ".toml": lambda path: check_settings(path, platform),
        ".onnx": check_onnx,
    }
    if path.suffix not in readers:
        raise SettingsError(f"check: {path} must end in {', '.join(readers)}")
    return readers[path.suffix](path)


# ------------------------------------------------------------------------------------------------------------ networks


def check_artifact(path: Path, platform: Platform) -> Checked:
    """Hold a packed network against every back end."""
    net = artifact.load(path)
    title = f"{path}: packed network, {len(net.tasks)} tasks, {len(net.banks)} banks"
    return _check_network(net, title, platform, list(QONNX))


def _check_network(net: PackedNetwork, title: str, platform: Platform, flavours: Sequence[str] = ()) -> Checked:
    problems = {"onnx": _onnx_problems(net), "hls": obstacles(net)}
    problems |= {name: _qonnx_problems(net, QONNX[name]) for name in flavours}
    records = [
        {"layer": layer.name, "kind": type(layer).__name__, "output": _sizes(net.shapes[index])}
        | {part: _answer(layer, found) for part, found in problems.items()}
        for index, layer in enumerate(net.layers)
    ]
    if problems["hls"]:
        return Checked(title, records, problems)
    notes, fits = _least_hardware(net, platform)
    problems[platform.device.name] = [] if fits else _part_problems(net, platform)
    return Checked(title, records, problems, notes)


def _least_hardware(net: PackedNetwork, platform: Platform) -> tuple[list[str], bool]:
    """What the least parallel accelerator takes of a part, with all masks on chip and with one at a time.

    Also whether one of them is surely found by a search.
    """
    part = platform.device
    design, fits = least_accelerator(net), False
    notes = [f"one weight a cycle in every layer, on {part.name} as estimated:"]
    for mask in get_args(MaskMode)[:2]:
        units = {name: replace(unit, mask=mask) for name, unit in design.settings.units.items()}
        estimate = estimate_resources(refold(design, HardwareSettings(units)), part, coefficients=platform.coefficients)
        worst = estimate.binding
        used, whole = getattr(estimate.resources, worst), getattr(capacities(part), worst)
        percent = estimate.utilization_percent[worst]
        fits = fits or percent <= HardwareRequest.limit_percent
        notes.append(
            f"  masks {mask}: {used} of {whole} {RESOURCE_NAMES[worst]} ({percent:.0f} %), "
            f"{estimate.inferences_per_second:.1f} inferences a second"
        )
    return notes, fits


def _part_problems(net: PackedNetwork, platform: Platform) -> list[str]:
    """Why no accelerator fits a part, not even with one mask on chip at a time, as ``tsn-hw hls`` says it."""
    try:
        choose(net, HardwareRequest(platform, masks="runtime"))
    except FoldingError as error:
        return [f"{error}; choose a larger --device, or a smaller network"]
    return []


def _answer(layer: Layer, problems: Sequence[str]) -> str:
    return "no" if any(problem.startswith(f"layer {layer.name!r}:") for problem in problems) else "yes"


def _onnx_problems(net: PackedNetwork) -> list[str]:
    """Layers that have no exact form in ONNX, each once, by the first task that shows it."""
    from export.onnx_graphs.plan import MOVED, plan_layer

    found: dict[str, str] = {}
    for task, described in enumerate(net.tasks):
        for index, layer, _ in net.run_order(task):
            if isinstance(layer, MOVED) or layer.name in found:
                continue
            try:
                plan_layer(net, task, index, None)
            except ExportError as error:
                found[layer.name] = f"{error} (task {described.name!r})"
    return list(found.values())


def _qonnx_problems(net: PackedNetwork, flavour: Flavour) -> list[str]:
    """The first layer of every task that a flavour does not hold, each once."""
    from export.qonnx_graphs.files import qonnx_graph

    found: dict[str, str] = {}
    for number, task in enumerate(net.tasks):
        try:
            qonnx_graph(net, number, flavour)
        except ExportError as error:
            found.setdefault(str(error), f"{error} (task {task.name!r})")
    return list(found.values())


def _sizes(shape: Shape) -> str:
    return " x ".join(map(str, shape))


# ------------------------------------------------------------------------------------------------------------ settings


@dataclass
class _Plan:
    """What is wrong with settings, by their part; a part that could not be checked is not there."""

    problems: dict[str, list[str]] = field(default_factory=dict)

    def note(self, part: str, action: Callable[[], T]) -> T | None:
        """The result of an action, or None and its problem noted."""
        found = self.problems.setdefault(part, [])
        try:
            return action()
        except TsnError as error:
            found.append(str(error))
            return None


def check_settings(path: Path, platform: Platform) -> Checked:
    """Check the settings of a run, its data, its body, and a network of that size against the back ends."""
    from tsn_hw.app.check.draft import draft
    from tsn_hw.learn.config import stream_of
    from tsn_hw.learn.ready import architecture_of, check_trainable, few_to_decide_on
    from tsn_hw.learn.run import device_of

    plan = _Plan()
    settings = _settings(path, plan)
    title = f"{path}: settings of a run"
    stream = None if settings is None else plan.note("data", lambda: stream_of(settings))
    if settings is None or stream is None:
        return Checked(title, [], plan.problems, ["what depends on these parts could not be checked"])
    body = plan.note("model", lambda: architecture_of(settings, stream.input_shape))
    if body is not None:
        plan.note("train", lambda: check_trainable(settings, stream, device_of("cpu")))
    if body is None or plan.problems["train"]:
        return Checked(title, [], plan.problems)
    title = f"{title}, {len(stream)} tasks, images {_sizes(stream.input_shape)}"
    net = plan.note("model", lambda: draft(body, settings, stream.classes))
    if net is None:
        return Checked(title, [], plan.problems)
    drawn = _check_network(net, title, platform)
    records = [
        {name: record[name] for name in ("layer", "kind", "output")} | {"weights": _weights(layer)} | record
        for record, layer in zip(drawn.records, body.layers, strict=False)  # without heads
    ]
    return Checked(title, records, plan.problems | dict(drawn.problems), [*few_to_decide_on(stream), *drawn.notes])


def _settings(path: Path, plan: _Plan) -> Settings | None:
    """The settings, table by table, so that a mistake in one does not hide those in others."""
    from tsn_hw.learn.config import read_settings
    from tsn_hw.learn.settings import Settings

    values = plan.note("settings", lambda: read_toml(path))
    if values is None:
        return None
    known, hints = [entry.name for entry in fields(Settings)], get_type_hints(Settings)
    for key, value in values.items():
        if key not in known:
            plan.problems["settings"].append(f"unknown key {shown(key)}; known are {', '.join(known)}")
        elif key != "data" and key != "seed":
            plan.note("settings", lambda kind=hints[key], value=value, key=key: build(kind, value, key))  # type: ignore[misc]
    if plan.problems["settings"]:
        return None
    return plan.note("settings", lambda: read_settings(path))


def _weights(layer: Layer) -> int | None:
    return math.prod(layer.weight_shape) if isinstance(layer, Weighted) else None


# ---------------------------------------------------------------------------------------------------------------- ONNX


def check_onnx(path: Path) -> Checked:
    """Check every operator of a model of another tool."""
    from export.onnx_graphs.metadata import properties
    from export.onnx_graphs.session import parse
    from tsn_hw.learn.foreign import read_foreign

    model = parse(read_bytes(path), str(path))
    if "format" in properties(model):
        raise SettingsError(f"{path}: is a graph that tsn-hw exported; check the .tsn file that it was made from")
    foreign = read_foreign(model)
    records = [{"operator": op.name, "kind": op.kind, "becomes": op.becomes or "-"} for op in foreign.operators]
    problems, notes = {"operators": foreign.all_problems}, list[str]()
    if foreign.body is not None:
        notes = ["train it with", "", _model_table(foreign.body, foreign.classes, path)]
    title = f"{path}: model of another tool, {len(foreign.operators)} operators"
    return Checked(title, records, problems, notes)


def _model_table(body: Architecture, head: int, path: Path) -> str:
    """The table of a settings file whose body is this one, of a foreign model with a head of so many classes."""
    normalized = {body.normalizes(layer) for layer in body.weighted.values()}
    classes = f"  # head: {head} classes"
    for settings, known in _known_bodies(body.input_shape, body.layers):
        if len(normalized) == 1 and _signature(known.layers, known.signed) == _signature(body.layers, body.signed):
            return "\n".join(["[model]", *settings, f"batch_norm = {str(normalized == {True}).lower()}{classes}"])
    return f'[model]\nkind = "onnx"\npath = {json.dumps(path.name)}{classes}'


def _known_bodies(shape: Shape, body: Sequence[Layer]) -> Iterator[tuple[list[str], Architecture]]:
    """Bodies that settings describe with the widths of another, and these settings."""
    from tsn_hw.learn.bodies import alexnet, mlp, resnet18, tinynet

    hidden = tuple(layer.channels for layer in body if isinstance(layer, Linear))
    channels = tuple(layer.channels for layer in body if isinstance(layer, Conv2d))
    if hidden and not channels:
        yield ['kind = "mlp"', f"hidden = {list(hidden)}"], mlp(shape, hidden)
    if hidden and channels:
        for make in (alexnet, tinynet):
            settings = [f'kind = "{make.__name__}"', f"channels = {list(channels)}", f"hidden = {list(hidden)}"]
            yield settings, make(shape, channels, hidden)
    if channels and not hidden:
        yield ['kind = "resnet18"', f"width = {channels[0]}"], resnet18(shape, channels[0])


def _signature(layers: Sequence[Layer], marked: Collection[str] = ()) -> str:
    """The same for the same graph of layers, whatever their names and their order; marked layers count as others."""
    digests = {INPUT: ""}
    for index, layer in enumerate(layers):
        geometry = {key: value for key, value in vars(layer).items() if key not in ("name", "inputs")}
        sources = sorted(digests[source] for source in layer.inputs)
        text = repr((type(layer).__name__, geometry, layer.name in marked, sources))
        digests[index] = hashlib.sha256(text.encode()).hexdigest()
    return digests[len(layers) - 1]
