"""The command line. Each command reads, calls one function, and prints; bad input is one line and exit code 2."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tsn_hw import __version__
from tsn_hw.app.cli.command import (
    EXIT_BAD_INPUT,
    EXIT_DIFFERENT,
    EXIT_INTERRUPTED,
    RATE,
    Parser,
    Result,
    add_command,
    add_platform_options,
    path,
    require_device,
    task,
    whole,
)
from tsn_hw.app.cli.hardware import add_hardware_commands
from tsn_hw.core.errors import SettingsError, TsnError
from tsn_hw.learn.progress import LOG, stage

MOST_LETTERS = 900
"""Of a line of complaint."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 fine, 1 engines differ or a model is not supported, 2 bad input."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names may hold what the console's encoding lacks
    options = argparse.Namespace(interrupted="")
    try:
        parser().parse_args(arguments, options)
        command: Callable[[argparse.Namespace], Result] = options.command
        with _told(options.quiet), stage(options.name):
            text, data, code = command(options)
    except (TsnError, OSError, MemoryError) as error:
        return _refused(" ".join(str(error).split()) or "out of memory")
    except KeyboardInterrupt:
        _refused(f"interrupted{'; ' if options.interrupted else ''}{options.interrupted}")
        return EXIT_INTERRUPTED
    return _print(json.dumps(data, indent=1) if options.json else text, code)


@contextlib.contextmanager
def _told(quiet: bool) -> Iterator[None]:
    """While a command runs, what takes long is told on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("tsn-hw: %(message)s"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        yield
    finally:
        LOG.setLevel(logging.NOTSET)
        LOG.removeHandler(handler)


def _print(text: str, code: int) -> int:
    """Print a result; returns the exit code that stands for it."""
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left must not be flushed again
        if not isinstance(error, BrokenPipeError):  # whose reader, such as `head`, has seen enough
            return _refused(f"cannot write standard output: {error.strerror}")
    return code


def _refused(message: str) -> int:
    if len(message) > MOST_LETTERS:  # some value is long
        message = f"{message[: MOST_LETTERS // 2]} ... {message[-MOST_LETTERS // 2 :]}"
    with contextlib.suppress(OSError):  # without standard error, the exit code alone tells
        print(f"tsn-hw: {message}", file=sys.stderr, flush=True)
    return EXIT_BAD_INPUT


def parser() -> Parser:
    """The parser of every command and option."""
    parser = Parser(
        prog="tsn-hw",
        description="TinySubNets on hardware: one network, many tasks, the same integers in every engine.",
        epilog="Start with 'tsn-hw demo'. Every command explains itself with --help. Exit code 2: bad input.",
    )
    parser.add_argument("--version", action="version", version=f"tsn-hw {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)

    demo = add_command(
        commands,
        "demo",
        _demo,
        "the whole chain on bundled data, verified, in a few minutes",
        interrupted="it goes on with --resume",
    )
    demo.add_argument(
        "--out", type=path, default=Path("build/demo"), help="folder for everything (default: %(default)s)"
    )
    demo.add_argument("--resume", action="store_true", help="go on where an interrupted demo stopped")
    _training_options(demo)

    train = add_command(
        commands,
        "train",
        _train,
        "learn every task of a settings file, freeze, save",
        interrupted="it goes on with --resume",
    )
    train.add_argument("settings", type=path, help="TOML file; see examples/ and docs/training.md")
    train.add_argument("-o", "--out", type=path, required=True, help="folder of the run; holds net.tsn at the end")
    train.add_argument("--resume", action="store_true", help="go on where a killed run stopped; ends in the same bytes")
    _training_options(train)

    show = add_command(commands, "show", _show, "banks, tasks, bits per weight, sparsity, capacity, seals")
    show.add_argument("network", type=path, help=".tsn file")

    onnx = add_command(commands, "onnx", _onnx, "write one ONNX graph a task for stock onnxruntime, or check them")
    onnx.add_argument("network", type=path, nargs="?", help=".tsn file")
    target = onnx.add_mutually_exclusive_group(required=True)
    target.add_argument("-o", "--out", type=path, help="folder for task_00.onnx, task_01.onnx ...")
    target.add_argument("--check", type=path, metavar="FOLDER", help="check digests and golden logits of a folder")
    onnx.add_argument("--shared", action="store_true", help="keep the words of all tasks in one file, banks.bin")
    onnx.add_argument("--folded", action="store_true", help="also write decoded graphs: they start faster")
    onnx.add_argument(
        "--flavour",
        choices=["stock", "quant", "multithreshold"],
        default="stock",
        help="stock: for onnxruntime; quant: QONNX for qonnx and hls4ml; multithreshold: QONNX for FINN; the last two "
        "go into a folder qonnx of their own (default: %(default)s)",
    )
    onnx.add_argument(
        "--form",
        action="append",
        default=[],
        metavar="[LAYER=]FORM",
        help="how a layer, or every one, computes: quantized, float32 or integer (default: the fastest exact one)",
    )

    run = add_command(commands, "run", _run, "classes of images from an exported graph alone")
    run.add_argument("graph", type=path, help="task_00.onnx ...; a shared banks.bin lies beside it")
    run.add_argument("input", type=path, nargs="+", help="image, which is resized as in training; .npy file; or folder")
    run.add_argument("--top", type=whole(1, 2**31), default=1, metavar="K", help="the K best classes (default: 1)")

    add_hardware_commands(commands)

    simulate = add_command(commands, "simulate", _simulate, "integer inference and accuracy of one task")
    simulate.add_argument("network", type=path, help=".tsn file")
    simulate.add_argument("--task", type=task, required=True, help="number of the task, from 0, or its name")
    source = simulate.add_mutually_exclusive_group()
    source.add_argument("--run", type=path, help="training run whose test data is used (default: the file's folder)")
    source.add_argument("--input", type=path, help=".npy file: uint8 images, or integers of the input format")

    sweep = add_command(
        commands,
        "sweep",
        _sweep,
        "many bit-widths from one trained run: accuracy against cost",
        interrupted="the same command goes on where it was",
    )
    sweep.add_argument("settings", type=path, help="TOML file; see examples/sweeps/ and docs/sweep.md")
    sweep.add_argument("-o", "--out", type=path, required=True, help="folder; a sweep that was stopped goes on in it")
    sweep.add_argument("--engine", choices=("processes", "dask"), default="processes", help="(default: %(default)s)")
    sweep.add_argument(
        "--jobs", type=whole(1, 1024), default=os.cpu_count() or 1, help="processes here (default: one a processor)"
    )
    sweep.add_argument("--scheduler", metavar="ADDRESS", help="of the Dask cluster, such as tcp://127.0.0.1:8786")
    sweep.add_argument("--parquet", action="store_true", help="also write the table as a Parquet file")

    report = add_command(commands, "report", _report, "one HTML page: what a network does, holds and costs")
    report.add_argument("run", type=path, help="folder of a training run, or .tsn file")
    report.add_argument("-o", "--out", type=path, help="HTML file (default: report.html beside the network)")
    report.add_argument("--sweep", type=path, help="folder of a sweep of the run")
    report.add_argument(
        "--rtl", type=path, help="folder of the network's RTL project: what tsn-hw synth measured of it"
    )
    add_platform_options(report, "part to put the accelerator on")
    report.add_argument("--target-fps", type=RATE, help="inferences a second (default: as many as the part allows)")

    verify = add_command(
        commands, "verify", _verify, "every engine against every other, bit for bit; exit 1 at the first difference"
    )
    verify.add_argument("network", type=path, help=".tsn file")
    verify.add_argument("--run", type=path, help="training run beside it (default: the file's folder, if it is one)")
    verify.add_argument(
        "--samples", type=whole(1, 10**5), default=64, help="adversarial inputs a task (default: %(default)s)"
    )
    verify.add_argument(
        "--images", type=whole(1, 10**7), default=256, help="test images a task, with a run (default: %(default)s)"
    )
    verify.add_argument("-o", "--out", type=path, help="also write the result as JSON here")
    verify.add_argument(
        "--rtl",
        type=path,
        metavar="FOLDING",
        help="also simulate the RTL with this folding; slow, a few inputs a task",
    )
    verify.add_argument(
        "--simulator", choices=("verilator", "cxxrtl", "icarus"), help="of the RTL (default: the first one installed)"
    )

    paper = add_command(
        commands,
        "bench",
        _bench_paper,
        "the paper's experiments, our figures beside the published ones; resumable",
        interrupted="the same command goes on where it was",
    )
    paper.add_argument("suite", choices=["paper"], help="the experiments: the paper's tables")
    paper.add_argument("--preset", type=path, required=True, help="settings file; see examples/ and docs/results.md")
    paper.add_argument("-o", "--out", type=path, help="folder of runs and tables (default: build/paper/PRESET)")
    paper.add_argument(
        "--tables", default="1-8", help="such as 1-8 or 3,5,9; 9 compares methods (default: %(default)s)"
    )
    paper.add_argument("--seeds", type=whole(1, 1000), default=1, help="seeds 0, 1, ... (default: %(default)s)")
    _training_options(paper)
    return parser


def _training_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")


def _demo(options: argparse.Namespace) -> Result:
    from tsn_hw.app.learning.demo import report, run_demo

    result = run_demo(options.out, options.resume, options.quiet, options.device)
    return *report(result, options.out), 0 if result.verification.passed else EXIT_DIFFERENT


def _train(options: argparse.Namespace) -> Result:
    from tsn_hw.app.learning.commands import train_run

    return *train_run(options.settings, options.out, options.device, options.resume, options.quiet), 0


def _show(options: argparse.Namespace) -> Result:
    from tsn_hw.app.learning.commands import show

    return *show(options.network), 0


def _onnx(options: argparse.Namespace) -> Result:
    from tsn_hw.app.deploy.graphs import check_graphs, read_forms, write_graphs, write_qonnx_graphs

    if (options.network is None) == (options.check is None):
        raise SettingsError("onnx: takes a network and --out, or --check alone")
    if options.flavour != "stock":
        for option in ("check", "shared", "folded", "form"):
            if getattr(options, option):
                raise SettingsError(f"--flavour {options.flavour}: --{option} is for stock graphs only")
        return *write_qonnx_graphs(options.network, options.out, options.flavour), 0
    if options.check is not None:
        return *check_graphs(options.check), 0
    forms = read_forms(options.form)
    return *write_graphs(options.network, options.out, options.shared, options.folded, forms), 0


def _run(options: argparse.Namespace) -> Result:
    from tsn_hw.app.deploy.graphs import run_on_files

    return *run_on_files(options.graph, options.input, options.top), 0


def _simulate(options: argparse.Namespace) -> Result:
    from tsn_hw.app.learning.commands import simulate

    return *simulate(options.network, options.task, options.run, options.input), 0


def _report(options: argparse.Namespace) -> Result:
    from tsn_hw.app.report.run import write_report

    wishes = None
    if options.device is not None:
        from tsn_hw.app.hardware.choose import HardwareRequest
        from tsn_hw.app.hardware.platform import platform_of

        wishes = HardwareRequest(platform_of(options), target_fps=options.target_fps)
    require_device(options, ("target_fps", "device_file", "coefficients"))
    return *write_report(options.run, options.out, options.sweep, wishes, options.rtl), 0


def _sweep(options: argparse.Namespace) -> Result:
    from tsn_hw.app.sweep.engines import dask_cluster, processes
    from tsn_hw.app.sweep.run import run_sweep, told

    if (options.engine == "dask") != (options.scheduler is not None):
        raise SettingsError("--engine dask and --scheduler go together")
    engine = processes(options.jobs) if options.scheduler is None else dask_cluster(options.scheduler)
    sweep = run_sweep(options.settings, options.out, engine, options.parquet)
    return *told(sweep, options.out), 0


def _verify(options: argparse.Namespace) -> Result:
    from tsn_hw.app.learning.commands import verify_network

    if options.simulator is not None and options.rtl is None:
        raise SettingsError("--simulator runs the hardware that --rtl names, and there is none")
    text, data = verify_network(
        options.network,
        options.run,
        options.samples,
        options.images,
        options.out,
        options.rtl,
        options.simulator,
    )
    return text, data, 0 if data["passed"] else EXIT_DIFFERENT


def _bench_paper(options: argparse.Namespace) -> Result:
    from tsn_hw.app.paper.bench import bench_paper

    out = options.out or Path("build/paper") / options.preset.stem
    tables = _numbers(options.tables, "--tables")
    return *bench_paper(options.preset, out, tables, options.seeds, options.device, options.quiet), 0


def _numbers(text: str, option: str) -> set[int]:
    """The numbers that a list of numbers and ranges names.

    >>> sorted(_numbers("1-3,7", "--tables"))
    [1, 2, 3, 7]
    """
    found: set[int] = set()
    for part in text.split(","):
        ends = re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", part.strip())
        if ends is None or int(ends[2] or ends[1]) < int(ends[1]):
            raise SettingsError(f"{option} {text!r}: must be numbers and ranges, such as 1-3,7")
        found |= set(range(int(ends[1]), int(ends[2] or ends[1]) + 1))
    return found


if __name__ == "__main__":
    sys.exit(main())
