"""The top function of an exported project as a Python function: compiled with g++, called with beats and registers."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")

_WRAPPER = r"""
#include "accelerator.hpp"
#include "tsn/simulation.hpp"

extern "C" void reset() { tsn::simulation::reset(); }

// One call; returns the status. `left`: beats that were not read. `words`: what came out, at most `most`.
// `prints`: fingerprints of network and design.
extern "C" unsigned call(unsigned command, unsigned task, unsigned count, const unsigned long long *beats,
                         unsigned *left, unsigned *words, unsigned most, unsigned *received, unsigned *prints) {
    static hls::stream<tsn::axis64> in("s_axis");
    hls::stream<tsn::axis32> out("m_axis");
    const unsigned given = *left;
    for (unsigned i = 0; i < given; i++) {
        tsn::axis64 beat;
        beat.data = beats[i];
        beat.keep = 0xFF;
        beat.strb = 0xFF;
        beat.last = i == given - 1;
        in.write(beat);
    }
    ap_uint<32> status, network, design;
    tsn_accelerator(in, out, task, count, command, status, network, design);
    prints[0] = network.to_uint();
    prints[1] = design.to_uint();
    for (*left = 0; !in.empty(); ++*left) in.read();
    for (*received = 0; !out.empty() && *received < most; ++*received) words[*received] = out.read().data.to_uint();
    return status.to_uint();
}
"""


class CompiledTop:
    """A top function for :class:`fake_board.Board`."""

    def __init__(self, folder: Path) -> None:
        wrapper, library = folder / "build" / "wrapper.cpp", folder / "build" / "top.so"
        wrapper.parent.mkdir()
        wrapper.write_text(_WRAPPER)
        flags = ["-std=c++14", "-O0", "-fPIC", "-shared", "-Wno-unknown-pragmas"]
        includes = [f"-I{folder / name}" for name in ("firmware", "csim")]
        sources = [str(folder / "firmware" / "accelerator.cpp"), str(wrapper)]
        subprocess.run(["g++", *flags, *includes, *sources, "-o", str(library)], check=True, capture_output=True)
        self.library = ctypes.CDLL(str(library))

    def reset(self) -> None:
        self.library.reset()

    def __call__(self, command: int, task: int, count: int, beats: list[int]) -> tuple[int, list[int]]:
        given = (ctypes.c_uint64 * max(1, len(beats)))(*beats)
        words = (ctypes.c_uint32 * (1 << 16))()
        left, received = ctypes.c_uint32(len(beats)), ctypes.c_uint32()
        prints = (ctypes.c_uint32 * 2)()
        status = self.library.call(
            command, task, count, given, ctypes.byref(left), words, len(words), ctypes.byref(received), prints
        )
        self.fingerprints = {"network": prints[0], "design": prints[1]}
        del beats[: len(beats) - left.value]
        return status, list(words[: received.value])
