"""RTL projects: SystemVerilog, memory images, a test bench and a FuseSoC core file, in one folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from export.hls.scripts import render
from export.memories.files import memory_files
from export.memories.sides import sides_file
from export.project.folder import manifest_of, write_folder
from export.rtl.integration import CONSTRAINTS, integration_files
from export.rtl.ipxact import component
from export.rtl.top import RTL_TEMPLATES, bench_module, top_module
from tsn_hw.core.errors import ExportError
from tsn_hw.core.files import StrPath
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.loads import check_packets

RTL_FOLDER = "tsn-hw rtl project 1"
TOP = "tsn_accelerator"
MEMORIES = '-DTSN_MEMORIES="memories/"'
"""Tells a program that runs in the folder of a project where the files of its memories lie."""
SOURCE_NAME = re.compile(r"rtl/\w+\.sv", re.ASCII)
"""Names that stand for themselves in every script and on every command line."""


def write_rtl(accelerator: Accelerator, folder: StrPath, extra_files: Mapping[str, bytes] | None = None) -> None:
    """Write the RTL project of an accelerator: same accelerator, same bytes; whole or not at all.

    extra_files: what other writers add, path in the folder → content (README.md, folding.json ...).

    Raises FoldingError where a line is longer than a load packet; ExportError where the folder is not empty and no RTL
    export of ours; FileError where it cannot be written.
    """
    write_folder(Path(folder), rtl_files(accelerator), RTL_FOLDER, extra_files)


def rtl_files(accelerator: Accelerator) -> dict[str, bytes]:
    """Path in the folder → content of everything that is simulated and synthesized."""
    check_packets(accelerator.layouts)
    sources = {f"rtl/{path.name}": path.read_bytes() for path in sorted(RTL_TEMPLATES.glob("tsn_*.sv"))}
    top = top_module(accelerator)
    sources["rtl/tsn_accelerator.sv"] = top.encode()
    memories = {f"memories/{name}": data for name, data in memory_files(accelerator, ["mem"]).items()}
    sides = [image for image in accelerator.images if image.layout.memory.choices]
    memories |= {f"memories/{image.layout.file}": sides_file(image) for image in sides}
    contents = [name for name in memories if name.endswith(".mem")]
    core = render(
        "rtl/tsn_accelerator.core.in",
        sources="\n".join(f"      - {name}" for name in sources),
        memories="\n".join(f"      - {name}: {{copyto: {Path(name).name}}}" for name in contents),
    )
    listed = "\n".join(f"    {name}" for name in [*sources, *contents])
    script = render("rtl/vivado.tcl.in", files=listed, constraints=CONSTRAINTS)
    benches = {f"testbench/{name}": (RTL_TEMPLATES / name).read_bytes() for name in ("testbench.sv", "bench.cpp")}
    benches["testbench/tsn_bench.sv"] = bench_module(accelerator).encode()
    described = component(top, {"rtl": list(sources), "memories": contents, "constraints": [CONSTRAINTS]})
    scripts = {"tsn_accelerator.core": core.encode(), "scripts/vivado.tcl": script.encode()}
    scripts["tsn_accelerator.xml"] = described
    return sources | memories | benches | accelerator.load_files | scripts | integration_files(accelerator)


def rtl_sources(folder: Path) -> list[str]:
    """The SystemVerilog files of the project in a folder, relative to it: those of its manifest.

    Other programs take their names in scripts, so ExportError tells every name that is none of ours; and it tells where
    there is no project.
    """
    try:
        listed = manifest_of(folder, RTL_FOLDER)
    except ExportError as error:
        raise ExportError(f"{folder}: holds no RTL project; tsn-hw rtl writes one") from error
    sources = {name for name in listed if name.startswith("rtl/")}
    for name in sorted(sources | {f"rtl/{path.name}" for path in folder.glob("rtl/*.sv")}):
        if name not in sources or not SOURCE_NAME.fullmatch(name):
            raise ExportError(f"{folder}: {name!r} is no file of the project; move it out of rtl")
    return sorted(sources)
