"""QONNX files: what they hold, what they refuse, and the integers that qonnx and hls4ml make of them.

The tools run in an environment of their own; ``TSN_HW_PEERS_PYTHON`` names its interpreter.
"""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export import check_folder, qonnx_graph, write_onnx, write_qonnx
from export.onnx_graphs.metadata import golden_inputs, is_sealed, logits_digest, properties
from export.qonnx_graphs.plan import qonnx_layer
from export.qonnx_graphs.thresholds import thresholds
from tests.helpers.handmade import S8, U8, linear, requantization
from tests.helpers.qonnx_networks import FLAVOURS, S1, S4, U1, U2, U4, U16, finer, fitting
from tests.helpers.small_network import NET, other_network
from tsn_hw.core import reference
from tsn_hw.core.arithmetic import ActFormat, requantize
from tsn_hw.core.errors import ArtifactError, ExportError

# what the files hold -------------------------------------------------------------------------------------------------


def test_a_threshold_is_the_smallest_accumulator_that_rounds_to_an_output_half_to_even():
    net = linear([[1], [1], [-1]], requantization(U2, 2, [0, 1, 0], [1, 1, 3], 3), U8)
    # 2 / 4 rounds to 0, 6 / 4 and 10 / 4 to 2; an accumulator of at most 0 reaches none, which is said by 0 + 1
    assert thresholds(qonnx_layer(net, 0, 0, 0), U2).tolist() == [[3, 6, 11], [2, 5, 10], [1, 1, 1]]


@pytest.mark.parametrize("form", [U1, S1, U2, S4, U8, S8])
@pytest.mark.parametrize("shift", [0, 1, 5])
def test_counting_thresholds_is_requantizing(form, shift):
    rng = np.random.default_rng(shift)
    multiplier = np.array([-(2**15), -3, 0, 1, 2, 2**15 - 1])
    offset = rng.integers(-(2**16), 2**16, 6)
    offset[:3] = 1 << shift >> 1
    layer = qonnx_layer(
        linear(rng.integers(-9, 10, (6, 3)), requantization(form, shift, offset, multiplier, 6), S4), 0, 0, 0
    )
    steps = thresholds(layer, form)
    assert steps.shape == (6, 2**form.bits - 1)
    for channel, (low, high) in enumerate(zip(layer.low, layer.high, strict=True)):
        acc = np.arange(low, high + 1)
        counted = (acc[:, None] >= steps[channel]).sum(axis=1) + form.range[0]
        sign = np.sign(multiplier[channel])
        expected = requantize(acc * sign, multiplier[channel], offset[channel], shift, form.range)
        np.testing.assert_array_equal(counted, expected)


def test_thresholds_are_the_closed_form_where_no_accumulator_ends():
    """k * 2**shift - 2**(shift - 1), one more for odd k because ties round to even, less the offset."""
    net = linear([[127, -128]], requantization(U4, 9, [-1000]), U8)
    k = np.arange(1, 16)
    assert thresholds(qonnx_layer(net, 0, 0, 0), U4).tolist() == [((k << 9) - 256 + k % 2 + 1000).tolist()]


def test_a_quant_graph_keeps_weights_offsets_and_activations_on_their_grids():
    net = linear([[3, 0], [-8, 5]], requantization(finer(U4, -1), 3, [6, 0], 1, 2), ActFormat(8, False, -4))
    model = qonnx_graph(net, 0, "quant")
    stored = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in model.graph.initializer}
    quants = {n.output[0]: [stored[i] for i in n.input[1:]] for n in model.graph.node if n.op_type == "Quant"}
    assert stored["fc.weights.values"] == [[3.0, -8.0], [0.0, 5.0]]  # (in, out); -1 - 3 - -4 = 0
    assert stored["fc.offset.values"] == [6 / 16, 0]
    assert quants == {  # scale, zero point, bits
        "x.quantized": [1 / 16, 0, 8],
        "fc.weights": [1, 0, 4],
        "fc.offset": [1 / 16, 0, 4],
        "fc": [1 / 2, 0, 4],
        "head.weights": [1, 0, 2],
        "head.offset": [1 / 2, 0, 2],
    }
    kinds = ["Quant", "Quant", "Quant", "MatMul", "Add", "Relu", "Quant", "Quant", "Quant", "MatMul", "Add"]
    assert [node.op_type for node in model.graph.node] == kinds


def test_a_multithreshold_graph_tells_the_integer_type_of_every_tensor():
    model = qonnx_graph(fitting(), 0, "multithreshold")
    kinds = ["Conv", "MultiThreshold", "MaxPool", "Conv", "MultiThreshold", "Mul", "Add", "MultiThreshold"]
    kinds += ["Conv", "MultiThreshold", "Flatten", "MatMul", "Add"]
    assert [node.op_type for node in model.graph.node] == kinds
    types = {a.tensor_name: a.quant_parameter_tensor_names[0].value for a in model.graph.quantization_annotation}
    assert {a.quant_parameter_tensor_names[0].key for a in model.graph.quantization_annotation} == {"finn_datatype"}
    tensors = {"x", *(tensor.name for tensor in model.graph.initializer), *(n.output[0] for n in model.graph.node)}
    assert types.keys() == tensors
    assert {name: types[name] for name in ("x", "conv", "pool", "mix", "add.thresholds", "flatten")} == {
        "x": "UINT6",
        "conv": "UINT4",
        "pool": "UINT4",
        "mix": "INT4",
        "add.thresholds": "INT7",
        "flatten": "UINT5",
    }
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in model.graph.node[4].attribute}
    assert attributes == {"out_dtype": b"INT4", "out_scale": 1, "out_bias": -8, "data_layout": b"NCHW"}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_files_have_a_folder_of_their_own_and_tell_of_themselves(flavour, tmp_path):
    write_onnx(NET, tmp_path)
    paths = write_qonnx(NET, tmp_path, flavour)
    assert paths == [tmp_path / "qonnx" / f"task_{task:02d}.{flavour}.onnx" for task in (0, 1)]
    content = paths[1].read_bytes()
    told = properties(onnx.load_from_string(content))
    assert is_sealed(content, told["sha256"])
    assert (told["format"], told["task"], told["weights"]) == (f"qonnx {flavour} 2", "b", "decoded")
    logits = list(reference.run(NET, 1, golden_inputs(NET.input_shape, NET.input)).values())[-1]
    assert told["golden"] == logits_digest(logits)
    assert write_qonnx(NET, tmp_path, flavour) == paths
    assert paths[1].read_bytes() == content
    assert [graph.path.name for graph in check_folder(tmp_path)] == ["task_00.onnx", "task_01.onnx"]
    with pytest.raises(ArtifactError) as error:
        check_folder(tmp_path / "qonnx")
    assert str(error.value) == f"{paths[0]}: is no graph of tsn-hw of format 5, but 'qonnx {flavour} 2'"


def test_files_of_another_network_are_removed_and_those_of_another_flavour_stay(tmp_path):
    write_qonnx(NET, tmp_path, "quant")
    first = write_qonnx(NET, tmp_path, "multithreshold")
    assert len(list((tmp_path / "qonnx").iterdir())) == 4
    written = write_qonnx(other_network().first_tasks(1), tmp_path, "quant")
    assert list((tmp_path / "qonnx").iterdir()) == written
    first[0].write_bytes(b"")
    with pytest.raises(
        ExportError, match=r"task_00\.multithreshold\.onnx: is no graph of tsn-hw; choose another folder"
    ):
        write_qonnx(NET, tmp_path, "quant")


# what they refuse ----------------------------------------------------------------------------------------------------


def refusals():
    """(network, flavour, message) of everything that a flavour does not hold."""
    wide = linear([[257, 0]], requantization(U8, 20), U16)
    limit = "QONNX holds integers up to 16777216 exactly"
    yield wide, "quant", f"layer 'fc': its accumulator with multiplier and offset reaches 16842495, {limit}"
    yield wide, "multithreshold", f"layer 'fc': its largest threshold reaches 16842496, {limit}"
    logits = linear([[1]], requantization(None, 0, [2**24 - 254]), U8, head=False)
    for flavour in FLAVOURS:
        yield logits, flavour, f"layer 'fc': its accumulator with multiplier and offset reaches 16777217, {limit}"
    message = "layer 'fc': 9-bit activations need 511 thresholds a channel, at most 8 bits"
    yield linear([[1]], requantization(ActFormat(9, False, 0), 1), U8), "multithreshold", message
    message = "layer 'fc': its logits are shifted by 3 bits, MultiThreshold needs 0"
    yield linear([[1]], requantization(None, 3), U8, head=False), "multithreshold", message
    message = "is signed with 1 bit, which holds -1 and 0; Quant reads it as -1 and 1"
    yield linear([[1]], requantization(S1, 1), U8), "quant", f"layer 'fc': its output: {message}"
    yield linear([[1]], requantization(U8, 1), S1), "quant", f"input: {message}"
    far = linear([[1]], requantization(finer(U8, -64), 62), ActFormat(8, False, 1))
    message = "layer 'fc': its weights have exponent -127, float32 holds -126..103"
    yield far, "quant", message


@pytest.mark.parametrize(("net", "flavour", "message"), list(refusals()))
def test_what_a_flavour_does_not_hold_is_refused_in_one_line(net, flavour, message, tmp_path):
    with pytest.raises(ExportError) as error:
        write_qonnx(net, tmp_path, flavour)
    assert str(error.value) == message
    assert list(tmp_path.iterdir()) == []
