"""What an RTL project brings for who builds it into a system: driver, registers, constraints, an instance, a README.

All of it are fixed files of ``hls_templates/ip``, but the README, which has the numbers of the accelerator.
"""

from __future__ import annotations

from export.hls.scripts import TEMPLATES, render
from export.rtl.top import summary
from tsn_hw.hardware.accelerator import Accelerator

IP_TEMPLATES = TEMPLATES / "ip"
FOLDERS = {
    "tsn_registers.rdl": "driver",
    "tsn_registers.h": "driver",
    "tsn_driver.h": "driver",
    "tsn_driver.c": "driver",
    "tsn_mapped.rdl": "driver",
    "tsn_mapped.h": "driver",
    "tsn_classify.h": "driver",
    "tsn_classify.c": "driver",
    "tsn_accelerator.xdc": "constraints",
    "tsn_accelerator.sdc": "constraints",
    "tsn_accelerator.lpf": "constraints",
    "tsn_instance.sv": "integration",
    "tsn_mapped.sv": "integration",
    "tsn_litex.py": "integration",
    "tsn_litex.h": "integration",
    "tsn_cocotb.py": "integration",
    "tsn_litex.ld": "integration",
    "tsn_litex_start.c": "integration",
}
"""Where a file of the templates lies in the project."""
CONSTRAINTS = "constraints/tsn_accelerator.xdc"


def integration_files(accelerator: Accelerator) -> dict[str, bytes]:
    """Path in the folder → content."""
    files = {f"{folder}/{name}": (IP_TEMPLATES / name).read_bytes() for name, folder in FOLDERS.items()}
    made = {
        "README.md": _readme(accelerator),
        "driver/tsn_numbers.h": render("ip/tsn_numbers.h.in", **_numbers(accelerator), **_fingerprints(accelerator)),
    }
    return files | {name: text.encode() for name, text in made.items()}


def _numbers(accelerator: Accelerator) -> dict[str, int]:
    """What software must know of a network."""
    return {
        "inputs": accelerator.input.elements,
        "container_bits": accelerator.container_bits,
        "beats": accelerator.input_beats,
        "outputs": accelerator.head.rows,
        "tasks": len(accelerator.net.tasks),
    }


def _fingerprints(accelerator: Accelerator) -> dict[str, str]:
    """What its registers tell, in C."""
    return {"network": f"0x{accelerator.network_number:08x}u", "design": f"0x{accelerator.design_number:08x}u"}


def _readme(accelerator: Accelerator) -> str:
    source = accelerator.input
    return render(
        "ip/README.md.in",
        summary=summary(accelerator),
        units="\n".join(f"{unit.title}: {unit.cycles} cycles" for unit in accelerator.units),
        format=f"{source.bits} bits, {'signed' if source.signed else 'unsigned'}",
        **_numbers(accelerator),
    )
