"""HLS projects: C++ firmware, simulation headers, a self-checking test bench and its golden data, in one folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from export.hls_folder import write_folder
from export.hls_golden import GoldenRun
from tsn_hw.errors import ExportError
from tsn_hw.units import Accelerator


def write_hls(
    accelerator: Accelerator,
    folder: Path,
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
    files = project_files(accelerator, golden)
    extra = dict(extra_files or {})
    twice = sorted(files.keys() & extra.keys())
    if twice:
        raise ExportError(f"file {twice[0]!r}: is written by the project itself")
    write_folder(folder, files | extra)


def project_files(accelerator: Accelerator, golden: Sequence[GoldenRun]) -> dict[str, bytes]:
    """Path in the folder → content of everything that compiles, runs and checks the accelerator."""
    raise NotImplementedError
