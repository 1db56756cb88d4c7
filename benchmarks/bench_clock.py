"""The clock of an accelerator on an ecp5-85: a row of a table, with what it takes.

    python benchmarks/bench_clock.py build/demo/net.tsn 132
    python benchmarks/bench_clock.py 784-100-100-10 113
    python benchmarks/bench_clock.py 784-300-100-10 113

A file: PE 4 and SIMD 8, the head 1 and 4. Widths: random weights of four tasks, PE and SIMD as in bench_rtl.py. The
number is the clock in MHz that nextpnr aims at, a third one its seed. Counts are those of yosys. It takes minutes.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bench_rtl import Comparison, design
from export.rtl.place import place_and_route
from export.rtl.project import write_rtl
from export.rtl.synthesis import synthesize
from sim.devices import device
from sim.resources import estimate_resources
from tsn_hw import load
from tsn_hw.app.output import Table, table_text
from tsn_hw.hardware.accelerator import Accelerator
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.pipeline import accelerator, unit_names

DEVICE = "ecp5-85"


def wanted(network: str) -> Accelerator:
    """The accelerator of a .tsn file, or of widths."""
    if not network.endswith(".tsn"):
        return design(Comparison(tuple(map(int, network.split("-"))), 4, False))
    net = load(network)
    *body, head = unit_names(net)
    units = {name: UnitSettings(Folding(4, 8), "deep") for name in body}
    return accelerator(net, HardwareSettings(units | {head: UnitSettings(Folding(1, 4), "none")}))


def main(network: str, aim_mhz: str = "113", seed: str = "1") -> None:
    made = wanted(network)
    cycles = estimate_resources(made, device(DEVICE)).interval_cycles
    with tempfile.TemporaryDirectory(prefix="tsn-hw-") as temporary:
        folder = Path(temporary) / "rtl"
        write_rtl(made, folder)
        found = synthesize(folder, "ecp5").resources
        clock = place_and_route(folder, DEVICE, float(aim_mhz), int(seed)).fmax_mhz
    names = ("lut", "ff", "bram", "dsp")
    row = [network, len(made.net.tasks), cycles, *(found[name] for name in names), f"{clock:.1f}"]
    print(table_text(Table.of_rows(["network", "tasks", "cycles", *names, "MHz"], [row])))


if __name__ == "__main__":
    main(*sys.argv[1:])
