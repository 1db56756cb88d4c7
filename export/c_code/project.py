"""The folder of a C project: constants, runtime, example, golden data, Makefile and README."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.c_code.packages import Package, how_to_build, packaged
from export.c_code.scratch import element_bytes
from export.c_code.sections import Choice, Sections, sections
from export.c_code.weights import Optimize
from export.hls.scripts import TEMPLATES, render
from export.project.folder import write_folder
from export.project.golden import GoldenRun
from tsn_hw.core.arithmetic import ActFormat, Ints
from tsn_hw.core.errors import ExportError
from tsn_hw.core.files import StrPath
from tsn_hw.core.network import PackedNetwork

C_FOLDER = "tsn-hw c project 1"
RUNTIME_HEADERS = ("tsn.h", "tsn_internal.h")
RUNTIME_SOURCES = (
    "tsn.c",
    "tsn_check.c",
    "tsn_convolve.c",
    "tsn_linear.c",
    "tsn_sections.c",
    "tsn_weights.c",
    "tsn_windows.c",
)
"""The runtime: files of ``hls_templates/c`` that are the same for all networks."""
SOURCES = (*RUNTIME_SOURCES, "tsn_net.c")
"""What a firmware compiles; the Makefile of a project finds them as ``tsn*.c``."""
COPIED = (*RUNTIME_HEADERS, *RUNTIME_SOURCES, "main.c", "Makefile", "cortex_m.c", "cortex_m.ld", "riscv/string.h")
"""The files of ``hls_templates/c`` that go into a project as they are."""
BYTES_A_LINE = 24


@dataclass(frozen=True)
class CProject:
    """What a project takes: bytes of constants in flash, bytes of the scratch buffer, and the layout of every layer."""

    flash_bytes: int
    scratch_bytes: int
    choices: tuple[Choice, ...]


def write_c(
    net: PackedNetwork,
    folder: StrPath,
    *,
    golden: Sequence[GoldenRun],
    optimize: Optimize = "balanced",
    package: Package = "make",
    max_classes: int = 1,
) -> CProject:
    """Write the C project of a network, for microcontrollers.

    Same network, same bytes; whole or not at all.

    golden: inputs and expected integers for the self-test. optimize: what decides how weights lie in flash.
    package: the build system that the folder is for.
    max_classes: logits that buffers have room for at least, for tasks that patches add.

    Raises ExportError where C cannot hold the network, or the folder is not empty and no export of ours; FileError
    where it cannot be written.
    """
    made = sections(net, optimize, max_classes)
    project = CProject(made.flash_bytes, scratch_bytes(made), made.choices)
    write_folder(Path(folder), c_files(net, made, golden, optimize, package), C_FOLDER)
    return project


def scratch_bytes(made: Sections) -> int:
    """Bytes of the scratch buffer: all tensors of a task, and its logits."""
    return made.scratch_bytes + 4 * made.most_logits


def c_files(
    net: PackedNetwork, made: Sections, golden: Sequence[GoldenRun], optimize: Optimize, package: Package = "make"
) -> dict[str, bytes]:
    """Path in the folder → content of everything that is written."""
    files = {name: (TEMPLATES / "c" / name).read_bytes() for name in COPIED}
    files["tsn_net.h"] = _header(net, made).encode()
    files["tsn_net.c"] = _constants(net, made).encode()
    files["golden.h"] = golden_header(net, golden).encode()
    files["README.md"] = _readme(net, made, optimize, package).encode()
    return packaged(files, package)


def _header(net: PackedNetwork, made: Sections) -> str:
    """Sizes of a network, for the caller's buffers."""
    return render(
        "c/tsn_net.h.in",
        input_type=_input_type(net.input),
        inputs=int(np.prod(net.input_shape)),
        tasks=len(net.tasks),
        scratch_bytes=scratch_bytes(made),
        scratch_words=scratch_bytes(made) // 4,
        most_logits=made.most_logits,
    )


def _constants(net: PackedNetwork, made: Sections) -> str:
    """The sections as arrays."""
    names = [f"task_{t}" for t in range(len(made.tasks))] + [f"bank_{bank}" for bank in made.banks]
    parts = ["/* Written by tsn-hw: the constants of a network. */", '#include "tsn_net.h"', ""]
    parts.append(arrays(names, "sections", made.all))
    sizes = f"TSN_TASKS, {len(names)}, TSN_INPUTS, sizeof(tsn_input), TSN_SCRATCH_BYTES, TSN_MOST_LOGITS"
    parts += [f"const tsn_network tsn_constants = {{\n    sections, {sizes}}};", ""]
    return "\n".join(parts)


def arrays(names: Sequence[str], table: str, contents: Sequence[bytes]) -> str:
    """Bytes as arrays of C, and a table of them as sections."""
    parts: list[str] = []
    for name, data in zip(names, contents, strict=True):
        parts += [f"static const uint8_t {name}[{len(data)}] = {{", *_lines(map(str, data)), "};", ""]
    parts.append(f"static const tsn_section {table}[{len(names)}] = {{")
    return "\n".join([*parts, *(f"    {{{name}, sizeof {name}}}," for name in names), "};", ""])


def golden_header(net: PackedNetwork, golden: Sequence[GoldenRun]) -> str:
    """Inputs and logits of some runs as arrays, each input with its CRC-32."""
    parts = ["/* Written by tsn-hw: inputs and the logits that every engine gives. */", '#include "tsn_net.h"', ""]
    rows: list[str] = []
    for run in golden:
        logits = run.layers[net.layers[net.head(run.task)].name]
        for x, y in zip(run.inputs, logits, strict=True):
            number, crc = len(rows), _crc(net, x, y)
            parts += [f"static const tsn_input golden_input_{number}[TSN_INPUTS] = {{", *_numbers(x), "};"]
            parts += [f"static const int32_t golden_logits_{number}[{y.size}] = {{", *_numbers(y), "};"]
            rows.append(f"    {{{run.task}, golden_input_{number}, golden_logits_{number}, {y.size}, {crc}u}},")
    if not rows:
        raise ExportError("golden data: there must be at least one input")
    parts += [f"#define TSN_GOLDENS {len(rows)}u", "static const tsn_golden tsn_goldens[TSN_GOLDENS] = {", *rows, "};"]
    return "\n".join([*parts, ""])


def _crc(net: PackedNetwork, x: Ints, y: Ints) -> int:
    kind = "i" if net.input.signed else "u"
    return zlib.crc32(x.astype(f"<{kind}{element_bytes(net.input)}").tobytes() + y.astype("<i4").tobytes())


def _numbers(values: Ints) -> list[str]:
    """Integers of C; the smallest of 32 bits has no literal of its own there."""
    smallest = -(2**31)
    return _lines("(-2147483647 - 1)" if value == smallest else str(value) for value in values.ravel().tolist())


def _lines(numbers: Iterable[str]) -> list[str]:
    texts = list(numbers)
    return [f"    {', '.join(texts[i : i + BYTES_A_LINE])}," for i in range(0, len(texts), BYTES_A_LINE)]


def _input_type(form: ActFormat) -> str:
    return f"{'' if form.signed else 'u'}int{8 * element_bytes(form)}_t"


def _readme(net: PackedNetwork, made: Sections, optimize: Optimize, package: Package) -> str:
    layouts = [f"| {c.layer} | {c.bank} | {c.layout} | {c.size_bytes:,} | {c.other_bytes:,} |" for c in made.choices]
    return render(
        "c/README.md.in",
        tasks="\n".join(f"{t} {task.name} ({len(task.classes)} classes)" for t, task in enumerate(net.tasks)),
        runtime=", ".join(f"`{name}`" for name in RUNTIME_SOURCES),
        optimize=optimize,
        building=how_to_build(package),
        flash=f"{made.flash_bytes:,}",
        scratch=f"{scratch_bytes(made):,}",
        layouts="\n".join(layouts),
        input=f"{net.input_shape} integers of type {_input_type(net.input)}, {net.input.bits} bits",
        unit=f"2**{net.input.exponent}",
    )
