"""An accelerator of tsn-hw in a system of LiteX: for any of its boards and buses, and a whole system in simulation.

::

    from tsn_litex import Simulation, add_accelerator

    add_accelerator(soc, "build/rtl")               # in a system of one's own: registers and streams on its bus
    Simulation("build/rtl", "main.c").simulate()    # or: VexRiscv, memory, console and accelerator in Verilator

``main.c`` includes ``tsn_litex.h``, which has the address, ``tsn_classify.h`` and a console. It takes LiteX
(packages: see docs/boards.md of tsn-hw), Verilator, and in simulation a compiler for
RISC-V and what LiteX's simulator is built of (Debian: ``gcc-riscv64-unknown-elf libevent-dev libjson-c-dev
zlib1g-dev``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import litex.soc
from litex.build.generic_platform import Pins, Subsignal
from litex.build.io import CRG
from litex.build.sim import SimPlatform
from litex.build.sim.config import SimConfig
from litex.gen import LiteXModule
from litex.soc.integration.builder import Builder
from litex.soc.integration.common import get_mem_data
from litex.soc.integration.soc import SoCRegion
from litex.soc.integration.soc_core import SoCCore
from litex.soc.interconnect import axi
from migen import ClockSignal, Instance, ResetSignal, Signal

SIZE = 0x1000
RAM, RAM_BYTES = 0x40000000, 0x10000
PREFIX = "riscv64-unknown-elf-"
FLAGS = ("-march=rv32im", "-mabi=ilp32", "-O2", "-ffreestanding", "-fno-builtin", "-nostdlib", "-static")
WIRES = {"valid": 1, "ready": 1, "data": 8}
CONSOLE = [(f"{side}_{wire}", bits) for side in ("source", "sink") for wire, bits in WIRES.items()]
IO = [("sys_clk", 0, Pins(1)), ("serial", 0, *(Subsignal(name, Pins(bits)) for name, bits in CONSOLE))]


class TsnAccelerator(LiteXModule):
    """The accelerator of an RTL project, with its streams as registers: a slave of AXI-Lite."""

    def __init__(self, platform: Any, project: str | Path) -> None:
        self.bus = bus = axi.AXILiteInterface(data_width=32, address_width=32)
        self.interrupt = Signal()  # level, high while an event that was asked for is not acknowledged
        for source in sorted((Path(project) / "rtl").glob("*.sv")):
            platform.add_source(str(source.resolve()))
        platform.add_source(str((Path(project) / "integration" / "tsn_mapped.sv").resolve()))
        ports: dict[str, Any] = {"i_aclk": ClockSignal(), "i_aresetn": ~ResetSignal()}
        ports["o_interrupt"] = self.interrupt
        given = {"aw": ["addr"], "w": ["data", "strb"], "ar": ["addr"], "b": [], "r": []}
        taken = {"b": ["resp"], "r": ["data", "resp"]}
        for name, fields in given.items():
            channel = getattr(bus, name)
            valid, ready = ("i", "o") if fields else ("o", "i")
            ports |= {f"{valid}_s_axi_{name}valid": channel.valid, f"{ready}_s_axi_{name}ready": channel.ready}
            ports |= {f"i_s_axi_{name}{field}": getattr(channel, field) for field in fields if field != "addr"}
            ports |= {f"o_s_axi_{name}{field}": getattr(channel, field) for field in taken.get(name, [])}
        ports |= {f"i_s_axi_{name}addr": getattr(bus, name).addr[:9] for name in ("aw", "ar")}
        self.specials += Instance("tsn_mapped", **ports)


def add_accelerator(soc: Any, project: str | Path, name: str = "tsn", origin: int | None = None) -> None:
    """Put the accelerator of an RTL project on the bus of a system.

    origin: its address, or LiteX chooses one; it is ``TSN_BASE`` in ``generated/mem.h``. Tools look for memories in the
    folder where they run: :func:`copy_memories` puts them there before a build.
    """
    module = TsnAccelerator(soc.platform, project)
    soc.add_module(name=name, module=module)
    soc.bus.add_slave(name, module.bus, SoCRegion(origin=origin, size=SIZE, cached=False))


def copy_memories(project: str | Path, folder: str | Path) -> None:
    """Put what the memories begin with into the folder where a toolchain runs: ``gateware`` of a Builder."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for memory in (Path(project) / "memories").glob("*.mem"):
        shutil.copy(memory, folder)


class Simulation(SoCCore):
    """A processor, 64 KiB of memory with a program, a console and the accelerator, for LiteX's simulator."""

    def __init__(self, project: str | Path, *sources: str | Path) -> None:
        self.project, self.sources = Path(project).resolve(), [Path(source).resolve() for source in sources]
        platform = SimPlatform("SIM", list(IO))
        super().__init__(
            platform, 1_000_000, cpu_type="vexriscv", cpu_variant="lite", cpu_reset_address=RAM, uart_name="sim",
            integrated_main_ram_size=RAM_BYTES, integrated_sram_size=0, with_timer=False, ident="",
        )  # fmt: skip
        self.crg = CRG(platform.request("sys_clk"))
        platform.add_debug(self)
        add_accelerator(self, project)

    def build(self, *arguments: Any, **options: Any) -> Any:
        """Compile the program, now that the addresses are known, and then the system."""
        out, here = Path(self.platform.output_dir), self.project / "integration"
        program, own = out / "program.elf", Path(litex.soc.__file__).parent
        includes = [
            here,
            self.project / "driver",
            out / "software" / "include",
            own / "software" / "include",
            own / "cores" / "cpu" / "vexriscv",
        ]
        drivers = [self.project / "driver" / name for name in ("tsn_driver.c", "tsn_classify.c")]
        files = [here / "tsn_litex_start.c", *drivers, *self.sources]
        command = [f"{PREFIX}gcc", *FLAGS, *(f"-I{folder}" for folder in includes), "-T", here / "tsn_litex.ld"]
        subprocess.run([*command, *files, "-lgcc", "-o", program], check=True)
        subprocess.run([f"{PREFIX}objcopy", "-O", "binary", program, program.with_suffix(".bin")], check=True)
        self.init_ram("main_ram", get_mem_data(str(program.with_suffix(".bin")), data_width=32, endianness="little"))
        return super().build(*arguments, **options)

    def simulate(self, folder: str | Path = "build/litex") -> None:
        """Build the simulator in a folder and run it until the program returns; what it prints appears."""
        console = SimConfig()
        console.add_clocker("sys_clk", freq_hz=1_000_000)
        console.add_module("serial2console", "serial")
        copy_memories(self.project, Path(folder) / "gateware")
        os.environ["MAKEFLAGS"] = "VM_PARALLEL_BUILDS=0"  # the model as one file, compiled in half the time
        builder = Builder(self, output_dir=str(folder), compile_software=False)
        builder.build(sim_config=console, interactive=False, verbose=False, opt_level="O0", jobs=2)
