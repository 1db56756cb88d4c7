"""The IP-XACT component and the cocotb example of an RTL project are true of its RTL."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from export.rtl.integration import IP_TEMPLATES
from export.rtl.ipxact import BUSES, NAMESPACE, ports_of
from export.rtl.project import write_rtl
from tests.helpers.networks import Recipe, adversarial_inputs, random_network
from tests.helpers.rtl_designs import folded
from tsn_hw.core import reference

NET = random_network(
    Recipe(kind="mlp", tasks=3, multipliers=True, signed_input=True, widths=(13, 8), classes=4, seed=4)
)
NAMES = {"x": NAMESPACE}
VALIDATE = """
import importlib.util, sys
from pathlib import Path
from lxml import etree
schemas = Path(importlib.util.find_spec("pyEDAA").submodule_search_locations[0]) / "IPXACT/Schema"
schema = etree.XMLSchema(etree.parse(str(schemas / "ieee-1685-2014/index.xsd")))
for path in sys.argv[1:]:
    print(schema.validate(etree.parse(path)), schema.error_log)
"""
PORTS = """
import sys
from pyslang.driver import Driver
driver = Driver()
driver.addStandardArgs()
driver.parseCommandLine("slang --top tsn_accelerator " + " ".join(sys.argv[1:]))
driver.processOptions()
driver.parseAllSources()
for port in driver.createCompilation().getRoot().topInstances[0].body.portList:
    print(port.name, str(port.direction).rpartition(".")[2].lower(), port.type.bitWidth)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("component") / "rtl"
    write_rtl(folded(NET, np.random.default_rng(0)), folder)
    return folder


def peers(module: str) -> str:
    python = os.environ.get("TSN_HW_PEERS_PYTHON")
    if python is None or subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode:
        pytest.skip(f"TSN_HW_PEERS_PYTHON names no interpreter with {module} (make test creates one)")
    return python


@pytest.mark.skipif(importlib.util.find_spec("peakrdl_ipxact") is None, reason="needs peakrdl-ipxact")
def test_the_memory_map_is_what_the_registers_say(tmp_path):
    made = tmp_path / "made.xml"
    command = [sys.executable, "-m", "peakrdl", "ip-xact", str(IP_TEMPLATES / "tsn_registers.rdl"), "-o", str(made)]
    subprocess.run([*command, "--vendor", "tsn-hw", "--library", "accelerator"], check=True, capture_output=True)
    assert made.read_text() == (IP_TEMPLATES / "tsn_registers.xml").read_text()


def test_a_schema_validates_the_component(project):
    done = subprocess.run(
        [peers("lxml, pyEDAA"), "-c", VALIDATE, str(project / "tsn_accelerator.xml")], capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == ("True \n", 0), done.stderr


@pytest.mark.skipif(importlib.util.find_spec("pyslang") is None, reason="needs pyslang")
def test_ports_and_buses_of_the_component_are_those_of_the_rtl(project):
    sources = sorted(map(str, project.glob("rtl/*.sv")))
    told = subprocess.run([sys.executable, "-c", PORTS, *sources], capture_output=True, text=True, check=True).stdout
    built = [(name, direction, int(bits)) for name, direction, bits in map(str.split, told.splitlines())]
    found = ports_of((project / "rtl/tsn_accelerator.sv").read_text())
    assert [(port.name, port.direction, port.bits) for port in found] == built
    root = ElementTree.parse(project / "tsn_accelerator.xml").getroot()
    listed = [
        (
            port.findtext("x:name", namespaces=NAMES),
            port.findtext("x:wire/x:direction", namespaces=NAMES),
            int(port.findtext(".//x:left", "0", NAMES)) + 1,
        )
        for port in root.iterfind("x:model/x:ports/x:port", NAMES)
    ]
    assert listed == built
    mapped = [name.text for name in root.iterfind(".//x:portMap/x:physicalPort/x:name", NAMES)]
    assert mapped == [name for bus in BUSES for name, _, _ in built if name.startswith(f"{bus}_")]
    logical = {name.text for name in root.iterfind(".//x:portMap/x:logicalPort/x:name", NAMES)}
    assert {"AWADDR", "RDATA", "TDATA", "TLAST", "TKEEP"} <= logical


def test_the_files_of_the_component_are_all_that_tools_compile(project):
    root = ElementTree.parse(project / "tsn_accelerator.xml").getroot()
    files = [name.text for name in root.iterfind(".//x:file/x:name", NAMES)]
    there = [
        path.relative_to(project).as_posix()
        for pattern in ("rtl/*.sv", "memories/*.mem")
        for path in project.glob(pattern)
    ]
    assert sorted(files) == sorted([*there, "constraints/tsn_accelerator.xdc"])


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs iverilog")
def test_the_cocotb_example_gives_the_logits_and_waveforms(project):
    python = peers("cocotb")
    x = adversarial_inputs(NET, 3, seed=1)[2]
    values = ",".join(map(str, x.tolist()))
    command = [python, str(project / "integration/tsn_cocotb.py"), "--task", "2", f"--input={values}", "--waves"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=project)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    wanted = list(reference.run(NET, 2, x[None]).values())[-1][0].tolist()
    assert json.loads((project / "simulation/cocotb/logits.json").read_text()) == wanted
    assert (project / "simulation/cocotb/tsn_accelerator.fst").stat().st_size > 1000
