"""HLS projects: C++ firmware, simulation headers, a self-checking test bench and its golden data, in one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from export.hls.firmware import TEMPLATES, firmware_source
from export.hls.headers import check_widths, config_header, memory_header
from export.project.folder import FORMAT, write_folder
from export.project.golden import GoldenRun, golden_data
from tsn_hw.core.files import StrPath
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.loads import check_packets

COPIED = ("Makefile", "csim/*.h", "firmware/*.hpp", "testbench/*.[ch]pp", "tsn/*.hpp")
"""The files of ``hls_templates`` that go into a project as they are; those of tsn into its firmware."""


def write_hls(
    accelerator: Accelerator,
    folder: StrPath,
    *,
    golden: Sequence[GoldenRun],
    extra_files: Mapping[str, bytes] | None = None,
) -> None:
    """Write the project of an accelerator: same accelerator, same bytes; whole or not at all.

    golden: inputs and expected integers for the test bench; tasks that are not in it are not tested.
    extra_files: what other writers add, path in the folder → content (README.md, scripts, driver, reports ...).

    Raises ExportError where the accelerator exceeds what HLS can hold, or the folder is not empty and no export of
    ours; FileError where it cannot be written.
    """
    write_folder(Path(folder), project_files(accelerator, golden), FORMAT, extra_files)


def project_files(accelerator: Accelerator, golden: Sequence[GoldenRun]) -> dict[str, bytes]:
    """Path in the folder → content of everything that compiles, runs and checks the accelerator."""
    copied = sorted(path for pattern in COPIED for path in TEMPLATES.glob(pattern))
    files = {path.relative_to(TEMPLATES).as_posix(): path.read_bytes() for path in copied}
    files = {f"firmware/{path}" if path.startswith("tsn/") else path: content for path, content in files.items()}
    files |= rendered_files(accelerator)
    files["testbench/golden.dat"] = golden_data(accelerator, golden)
    return files | accelerator.load_files


def rendered_files(accelerator: Accelerator) -> dict[str, bytes]:
    """Path in the folder → content of the firmware that is of this accelerator alone."""
    check_widths(accelerator)
    check_packets(accelerator.layouts)
    identifiers = {unit.name: unit.identifier for unit in accelerator.units}
    files: dict[str, bytes] = {}
    for image in accelerator.images:
        name = f"{identifiers[image.unit]}_{image.kind}"
        files[f"firmware/memories/{name}.hpp"] = memory_header(name, image).encode()
    files["firmware/config.hpp"] = config_header(accelerator).encode()
    files["firmware/accelerator.cpp"] = firmware_source(accelerator).encode()
    return files
