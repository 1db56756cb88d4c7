"""FINN's front end, as far as it goes without Vivado, in an interpreter of its own that has the wheel finn-plus."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

FRONT_END = """
import json, os, sys, tempfile, warnings
os.environ.setdefault("FINN_BUILD_DIR", tempfile.mkdtemp())  # finn.builder asks for Vivado, the transformations do not
import numpy
from finn.util.settings import initialize_dummy_settings
initialize_dummy_settings()
from finn.analysis.fpgadataflow.exp_cycles_per_layer import exp_cycles_per_layer
from finn.analysis.fpgadataflow.res_estimation import res_estimation
from finn.transformation.fpgadataflow.convert_to_hw.quantized_matrix_vector_activation import (
    InferQuantizedMatrixVectorActivation,
)
from finn.transformation.fpgadataflow.convert_to_hw.thresholding import InferThresholdingLayer
from finn.transformation.fpgadataflow.specialize_layers import SpecializeLayers
from finn.transformation.streamline import Streamline
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.custom_op.registry import getCustomOp
from qonnx.transformation.general import GiveUniqueNodeNames
from qonnx.transformation.infer_data_layouts import InferDataLayouts
from qonnx.transformation.infer_datatypes import InferDataTypes
from qonnx.util.cleanup import cleanup_model

warnings.filterwarnings("ignore", "Assuming .D input is NC")
part, counts = "xc7z020clg400-1", json.loads(sys.argv[3])
inputs = numpy.load(sys.argv[2])

def logits(model):
    source, result = model.graph.input[0].name, model.graph.output[0].name
    return [execute_onnx(model, {source: x[None]})[result][0].tolist() for x in inputs]

told, model = {}, cleanup_model(ModelWrapper(sys.argv[1]))
for steps in (
    [Streamline(), InferDataLayouts(), InferDataTypes()],
    [InferQuantizedMatrixVectorActivation(), InferThresholdingLayer(), InferDataTypes(), GiveUniqueNodeNames()],
):
    for step in steps:
        model = model.transform(step)
    told[type(steps[0]).__name__] = {"kinds": [n.op_type for n in model.graph.node], "logits": logits(model)}
model = model.transform(SpecializeLayers(part)).transform(GiveUniqueNodeNames())
cycles, resources, units = exp_cycles_per_layer(model), res_estimation(model, part), {}
for node in model.get_nodes_by_op_type("MVAU_hls") + model.get_nodes_by_op_type("MVAU_rtl"):
    unit = getCustomOp(node)
    rows, columns = unit.get_nodeattr("MH"), unit.get_nodeattr("MW")
    bits = unit.get_input_datatype(1).bitwidth()
    steps = 0 if unit.get_nodeattr("noActivation") else model.get_initializer(node.input[2]).shape[1]
    threshold_bits = model.get_tensor_datatype(node.input[2]).bitwidth() if steps else 0
    blocks = []
    for count in counts:  # sets of weights lie one behind the other in one memory, as generate_params writes them
        unit.set_nodeattr("MH", count * rows)
        blocks.append(unit.bram_estimation(part))
    unit.set_nodeattr("MH", rows)
    units[node.name] = {
        "rows": rows, "columns": columns, "weight_bits": bits, "thresholds": rows * steps,
        "threshold_bits": threshold_bits, "blocks": blocks, "cycles": int(cycles[node.name]),
        "bram_18k": resources[node.name]["BRAM_18K"],
    }
print(json.dumps(told | {"units": units}))
"""


def finn_python() -> str | None:
    """The interpreter that has FINN (``make finn`` creates one), if there is one."""
    return os.environ.get("TSN_HW_FINN_PYTHON")


def front_end(python: str, graph: Path, inputs: Path, counts: list[int]) -> Any:
    """Streamline a graph, make hardware layers of it, execute both, and estimate ``counts`` sets of weights."""
    command = [python, "-c", FRONT_END, str(graph), str(inputs), json.dumps(counts)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])
