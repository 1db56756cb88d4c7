"""The commands around what runs without an FPGA: onnx, run, c; and release, for what goes out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from tsn_hw.app.cli.command import File, Folder, Out, flag, path, paths, whole
from tsn_hw.app.output import CommandResult
from tsn_hw.core.errors import SettingsError


@Parameter(name="*")
@dataclass(frozen=True)
class StockGraphs:
    """What graphs for stock onnxruntime may be."""

    shared: bool = False
    """keep the words of all tasks in one file, banks.bin"""
    folded: bool = False
    """also write decoded graphs: they start faster"""
    form: Annotated[tuple[str, ...], Parameter(metavar="[LAYER=]FORM")] = ()
    """how a layer, or every one, computes: quantized, float32 or integer; may be repeated (default: the fastest exact
    one)"""


def onnx(
    network: File | None = None,
    /,
    *,
    out: Out | None = None,
    check: Folder | None = None,
    flavour: Literal["stock", "quant", "multithreshold"] = "stock",
    stock: StockGraphs = StockGraphs(),
) -> CommandResult:
    """Write one ONNX graph a task for stock onnxruntime, or check them.

    Args:
        network: .tsn file
        out: folder for task_00.onnx, task_01.onnx ...
        check: check digests and golden logits of a folder
        flavour: stock: for onnxruntime; quant: QONNX for qonnx and hls4ml; multithreshold: QONNX for FINN; the last
            two go into a folder qonnx of their own
    """
    from tsn_hw.app.deploy.graphs import check_graphs, read_forms, write_graphs, write_qonnx_graphs

    if flavour != "stock":
        for option, given in ({"check": check} | vars(stock)).items():
            if given:
                raise SettingsError(f"--flavour {flavour}: {flag(option)} is for stock graphs only")
    if check is not None and network is None and out is None:
        return check_graphs(check)
    if check is not None or network is None or out is None:
        raise SettingsError("onnx: takes a network and --out, or --check alone")
    if flavour != "stock":
        return write_qonnx_graphs(network, out, flavour)
    return write_graphs(network, out, stock.shared, stock.folded, read_forms(stock.form))


def run(
    graph: File,
    input: Annotated[list[Path], Parameter(converter=paths)],
    /,
    *,
    top: Annotated[int, whole(1, 2**31), Parameter(metavar="K")] = 1,
) -> CommandResult:
    """Classes of images from an exported graph alone.

    Args:
        graph: task_00.onnx ...; a shared banks.bin lies beside it
        input: images, which are resized as in training; .npy files; or folders
        top: the K best classes
    """
    from tsn_hw.app.deploy.graphs import run_on_files

    return run_on_files(graph, input, top)


@Parameter(name="*")
@dataclass(frozen=True)
class CFolderOptions:
    """How C is written."""

    optimize: Literal["size", "balanced", "speed"] = "balanced"
    """how weights lie in flash: the fewest bytes, few bytes that run fast, or what runs fastest"""
    package: Literal["make", "cmake", "arduino", "zephyr", "esp-idf"] | None = None
    """the build system that the folder is for (default: make)"""
    samples: Annotated[int, whole(1, 1000)] = 2
    """golden inputs a task, for the self-test"""
    max_classes: Annotated[int | None, whole(1, 10**4)] = None
    """make room for tasks of so many classes, which patches add later"""
    patch: Annotated[File | None, Parameter(metavar="OLD")] = None
    """write what the network adds to a microcontroller that runs this earlier one, with the same --optimize"""
    base: Annotated[File | None, Parameter(metavar="OLDEST")] = None
    """the network that it was compiled with, where patches have made it OLD since"""


def c(
    network: File,
    /,
    *,
    out: Out,
    how: CFolderOptions = CFolderOptions(),
) -> CommandResult:
    """Write C for microcontrollers: the network as constants for a small runtime.

    docs/microcontrollers.md tells more.

    Args:
        network: .tsn file
        out: folder for tsn_net.h, tsn_net.c, tsn.h, tsn.c ...; of a patch: patch.bin, golden.h
    """
    from tsn_hw.app.deploy.c_code import Firmware, write_c_project, write_c_tasks

    if how.patch is None:
        if how.base is not None:
            raise SettingsError("--base: is about a patch; name the network that it extends with --patch")
        return write_c_project(network, out, how.optimize, how.samples, how.package or "make", how.max_classes or 1)
    for option in ("package", "max_classes"):
        if getattr(how, option) is not None:
            raise SettingsError(f"{flag(option)}: is decided by the firmware that a patch is for")
    return write_c_tasks(Firmware(how.patch, how.base), network, out, how.optimize, how.samples)


def release(
    network: File,
    /,
    *exports: Annotated[Path, Parameter(converter=path, metavar="FOLDER")],
    out: Out,
    license: str | None = None,
) -> CommandResult:
    """Gather what goes out: network, exports, model card, bill of materials (CycloneDX), licence, digests.

    The same input gives the same bytes.

    Args:
        network: .tsn file, or the folder of a run, whose accuracies the model card then tells
        exports: folders that onnx, c, hls, rtl or memories wrote
        out: folder for MODEL_CARD.md, sbom.cdx.json, SHA256SUMS, net.tsn, and every export under its name
        license: SPDX name of the licence of the network, such as CC-BY-4.0 (default: the model card says none)
    """
    from tsn_hw.app.deploy.release import write_release

    return write_release(network, exports, out, license)
