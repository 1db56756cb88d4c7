"""Machines that run the C of a network here: this one, and others in qemu."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror")


@dataclass(frozen=True)
class Machine:
    """How a program is compiled for a machine, and run.

    compiler: its command, to which warnings, ``-o PROGRAM``, sources and libraries are added. files: templates of
    ``hls_templates/c`` that go beside the project; those that end with .c are sources too. run: the command to which
    the path of the program is added. byte_order: of its integers, as NumPy writes it.
    """

    compiler: tuple[str, ...]
    files: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    byte_order: Literal["<", ">"] = "<"

    @property
    def tools(self) -> tuple[str, ...]:
        """The programs that it needs."""
        return (self.compiler[0], *self.run[:1])


def host(*compiler: str) -> Machine:
    """This machine, with a compiler and its flags."""
    return Machine(compiler)


@dataclass(frozen=True)
class Board:
    """A board of qemu with a Cortex-M: its core, and symbols of ``cortex_m.ld`` where its memory lies elsewhere."""

    core: str
    memory: tuple[str, ...] = ()


BOARDS = {
    "microbit": Board("cortex-m0", ("flash_size=256K", "ram_size=16K")),
    "mps2-an385": Board("cortex-m3"),
    "mps2-an386": Board("cortex-m4"),
    "mps2-an505": Board("cortex-m33", ("flash_at=0x10000000", "ram_at=0x38000000")),
}


def cortex_m(board: str, core: str | None = None, optimization: str = "-O2", icount: bool = False) -> Machine:
    """A board of qemu, with code for its core or for another ``core`` whose instructions it knows.

    icount: its clock counts instructions, of 1 ns each.
    """
    found = BOARDS[board]
    memory = [f"-Wl,--defsym,{symbol}" for symbol in found.memory]
    flags = [f"-mcpu={core or found.core}", "-mthumb", "-nostartfiles", "--specs=rdimon.specs", "-T", "cortex_m.ld"]
    qemu = ["qemu-system-arm", "-M", board, "-nographic", "-semihosting-config", "enable=on,target=native"]
    qemu += ["-icount", "shift=0"] if icount else []
    return Machine(
        ("arm-none-eabi-gcc", optimization, *flags, *memory), ("cortex_m.c", "cortex_m.ld"), (*qemu, "-kernel")
    )


def riscv32(optimization: str = "-O2", run: Sequence[str] = ("qemu-riscv32",)) -> Machine:
    """RV32IMC in qemu's user mode, without a C library."""
    flags = ("-march=rv32imc", "-mabi=ilp32", "-ffreestanding", "-nostdlib", "-Iriscv")
    files = ("riscv/riscv.c", "riscv/stdio.h", "riscv/string.h")
    return Machine(("riscv64-unknown-elf-gcc", optimization, *flags), files, tuple(run), ("-lgcc",))


POWERPC = Machine(("powerpc-linux-gnu-gcc", "-O2", "-static"), run=("qemu-ppc",), byte_order=">")
"""32 bits, the highest byte first."""

X86_32 = Machine(("i686-linux-gnu-gcc", "-O2", "-static"))
"""32 bits, on a processor of 64."""

MACHINES = {
    "x86-64 -O0": host("gcc", "-O0"),
    "x86-64 -O2": host("gcc", "-O2"),
    "x86-64 -Os": host("gcc", "-Os"),
    "x86 of 32 bits": X86_32,
    "Cortex-M0": cortex_m("microbit"),
    "Cortex-M3": cortex_m("mps2-an385"),
    "Cortex-M4": cortex_m("mps2-an386"),
    "Cortex-M33": cortex_m("mps2-an505"),
    "code for a Cortex-M0+": cortex_m("mps2-an385", "cortex-m0plus"),
    "RV32IMC": riscv32(),
    "PowerPC, highest byte first": POWERPC,
}
"""The machines on which the C of networks is compared with the int64 loop."""
