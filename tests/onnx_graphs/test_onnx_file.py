"""What an ONNX file says of itself, and how it is written."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from onnx import TensorProto, helper

from export import onnx_graph, write_onnx
from export.onnx_graphs.fold import folded
from export.onnx_graphs.graph import input_dtype
from tests.helpers.networks import Recipe, adversarial_inputs, random_network, recipes
from tests.helpers.onnx_engines import BEYOND_FLOAT32, ENGINES, EXAMPLES, S8, linear_network, scale, session, told
from tests.helpers.small_network import NET, put
from tsn_hw.core import reference
from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.errors import FileError

# the file -----------------------------------------------------------------------------------------------------------


def test_a_graph_pins_its_versions_and_explains_itself():
    model = onnx_graph(NET, 1)
    assert (model.ir_version, model.producer_name) == (9, "tsn-hw")
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 19, "tsn_hw": 1}
    assert [entry.name for entry in model.functions] == [
        "ByteGemm",
        "Place",
        "CodebookLookup",
        "ReadFields",
    ]
    assert all(entry.doc_string for entry in model.functions)
    x, logits = model.graph.input[0], model.graph.output[0]
    assert (x.name, x.type.tensor_type.elem_type, x.doc_string) == (
        "x",
        TensorProto.UINT8,
        "0..255; real value = x * 2**0",
    )
    assert (logits.name, logits.type.tensor_type.elem_type) == ("logits", TensorProto.INT32)
    assert [dim.dim_param or dim.dim_value for dim in x.type.tensor_type.shape.dim] == ["N", 1, 3, 2]
    assert [dim.dim_param or dim.dim_value for dim in logits.type.tensor_type.shape.dim] == ["N", 3]
    assert all(node.name == ("" if node.domain else node.output[0]) for node in model.graph.node)
    assert {"mix.codes", "mix.mask", "mix.codebook"} <= {tensor.name for tensor in model.graph.initializer}


def test_metadata_tell_task_classes_input_and_layers():
    assert told(onnx_graph(NET, 1)) == {
        "format": 5,
        "task": "b",
        "classes": ["0", "1", "2"],
        "input": {"bits": 8, "signed": False, "exponent": 0},
        "output": {"exponent": -7},
        "image": {"layout": "CHW", "mode": "L", "resize": "bilinear", "size": [3, 2]},
        "layers": {
            "name": ["conv", "mix", "add", "average", "head_b"],
            "form": ["quantized", "quantized", "quantized", "quantized", "quantized"],
            "accumulator": [127 * 255, 30 * 255, 510, 6 * 255, 14 * 255],
            "bound": [127 * 255, 30 * 255, 510, 6 * 255, 14 * 255],
            "bits": [8, 8, 8, 8, None],
            "code_bits": [1, 1, None, None, 1],
        },
    }


def test_the_head_of_every_task_is_called_head_in_its_graph():
    for task in range(2):
        assert "head.codes" in {tensor.name for tensor in onnx_graph(NET, task).graph.initializer}
    layers = (replace(NET.layers[0], name="head"), *NET.layers[1:])
    names = {tensor.name for tensor in onnx_graph(replace(NET, layers=layers), 1).graph.initializer}
    assert {"head.codes", "head_b.codes"} <= names


@pytest.mark.parametrize(("shift", "multiplier", "exponent"), [(0, 1, -3), (4, 1, 1), (4, 3, None)])
def test_the_exponent_of_the_logits_is_that_of_products_and_shift(shift, multiplier, exponent):
    net = linear_network([[1]], scale([1], [0], 0, ActFormat(8, False, -3)))
    net = put(net, ("tasks", 0, "steps", 1, "requantization"), scale([multiplier], [0], shift, None))
    assert told(onnx_graph(net, 0))["output"] == {"exponent": exponent}


def test_codes_index_the_distinct_centroids_that_the_task_reads_frequent_ones_first():
    net = linear_network([[5, -3, 5, 9]], scale([1], [0], 0))
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in onnx_graph(net, 0).graph.initializer}
    assert constants["fc.codebook"].tolist() == [[5, 256 - 3, 9]]  # two's complement
    assert constants["fc.codes"].tolist() == [[0b00_10_01_00, 0]]  # behind one for nobody: codes 0, 1, 0, 2
    assert constants["fc.mask"].tolist() == [[[0b1111]]]


@pytest.mark.parametrize(("largest", "dtype"), [(64, "int8"), (65, "uint8")])
@pytest.mark.parametrize("multipliers", [[1, 1], [1, 2]], ids=["Gemm", "QLinearConv"])
@pytest.mark.parametrize("engine", ENGINES)
def test_weights_are_int8_where_two_products_fit_16_bits_and_uint8_elsewhere(engine, multipliers, largest, dtype):
    rows = [[largest] * 9, [-largest] * 8 + [largest]]
    net = linear_network(rows, scale(multipliers, [0, 0], 8, S8))
    model = onnx_graph(net, 0, taps=True)
    assert told(model)["layers"]["form"][0] == "quantized"
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info("fc.weights"))
    x = np.array([[255] * 9, [255] * 8 + [0], [0] * 9, [1] * 9])
    outputs = engine(model)(x=x.astype(np.uint8))
    assert outputs["fc.weights"].dtype == dtype
    assert outputs["fc"].tolist() == reference.run(net, 0, x)["fc"].tolist()


def test_only_survivors_are_stored():
    net = random_network(Recipe(tasks=3, code_bits=(4, 4), density=0.3, seed=5))
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in onnx_graph(net, 2).graph.initializer}
    for _, layer, run in net.run_order(2):
        name = layer.name.replace("head2", "head")
        codes, mask, book = (constants[f"{name}.{part}"] for part in ("codes", "mask", "codebook"))
        bits = max(1, (book.size - 1).bit_length())
        groups = -(-(1 + run.mask.sum()) // 8)
        fields = {width for width in (8, 4, 2, 1) if bits & width}
        assert codes.shape == (1, groups * max(fields))
        others = {constants[f"{name}.codes_{bits - bits % (2 * width)}"].shape for width in fields - {max(fields)}}
        assert others == {(1, groups * width) for width in fields - {max(fields)}}
        assert mask.shape == (1, 1, -(-run.mask.size // 8))
        assert book.dtype == np.uint8


def test_a_file_holds_little_more_than_codes_and_masks():
    weights = np.random.default_rng(0).choice([-99, -50, -7, -1, 1, 7, 50, 99], (300, 400))
    net = linear_network(weights, scale([1] * 300, [0] * 300, 8))
    packed_bytes = weights.size * (3 + 1) // 8
    assert packed_bytes < len(onnx_graph(net, 0).SerializeToString()) < packed_bytes + 12_000


def test_the_same_network_gives_the_same_bytes():
    recipe = Recipe(kind="residual", tasks=3, multipliers=True)
    first, second = (onnx_graph(random_network(recipe), 2).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("bits", "signed", "expected"), [(1, False, "uint8"), (8, True, "int8"), (9, False, "uint16"), (16, True, "int16")]
)
def test_the_input_has_the_smallest_type_that_holds_it(bits, signed, expected):
    net = linear_network([[1]], scale([1], [0], 0, S8), ActFormat(bits, signed, 0))
    model = onnx_graph(net, 0)
    assert input_dtype(net) == expected
    assert helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type) == expected


def test_onnxruntime_folds_the_lookup_and_says_nothing(tmp_path, capfd):
    net = linear_network([[1, -2], [3, 4]], BEYOND_FLOAT32)
    extended = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED  # the highest without a warning for saving
    path = tmp_path / "optimized.onnx"
    session(onnx_graph(net, 0), graph_optimization_level=extended, optimized_model_filepath=str(path))
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds == ["Unsqueeze", "Transpose", "QLinearConv", "Transpose", "Squeeze", "QGemm", "Cast"]
    session(onnx_graph(NET, 0))
    assert capfd.readouterr() == ("", "")


# on disk ------------------------------------------------------------------------------------------------------------


def test_write_onnx_writes_a_file_a_task_and_replaces_old_ones(tmp_path):
    folder = tmp_path / "new" / "onnx"
    for _ in range(2):
        assert write_onnx(NET, folder) == [folder / "task_00.onnx", folder / "task_01.onnx"]
    assert sorted(path.name for path in folder.iterdir()) == ["task_00.onnx", "task_01.onnx"]
    for task, path in enumerate(sorted(folder.iterdir())):
        assert onnx.load(path).graph == onnx_graph(NET, task).graph


def test_folded_graphs_lie_beside_the_others_until_an_export_without_them(tmp_path):
    assert [path.name for path in write_onnx(NET, tmp_path, fold=True)] == [
        "task_00.folded.onnx",
        "task_00.onnx",
        "task_01.folded.onnx",
        "task_01.onnx",
    ]
    write_onnx(NET, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["task_00.onnx", "task_01.onnx"]


def test_a_file_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "onnx").write_text("a file where the folder should be")
    with pytest.raises(FileError) as error:
        write_onnx(NET, tmp_path / "onnx")
    assert str(error.value) == f"cannot write {tmp_path}/onnx/task_00.onnx: File exists"
    (tmp_path / "task_00.onnx").mkdir()
    with pytest.raises(FileError, match=r"task_00\.onnx: Is a directory"):
        write_onnx(NET, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["onnx", "task_00.onnx"]


@settings(max_examples=EXAMPLES // 2)
@given(recipes())
def test_folded_graphs_hold_decoded_weights_and_give_the_same_integers(recipe):
    net = random_network(recipe)
    task = recipe.seed % len(net.tasks)
    x = adversarial_inputs(net, 6, recipe.seed)
    model = folded(onnx_graph(net, task))
    onnx.checker.check_model(model, full_check=True)
    assert {function.name for function in model.functions} <= {
        "ByteGemm",
        "Requantize",
        "RequantizeInteger",
        "SplitBytes",
    }
    expected = list(reference.run(net, task, x).values())[-1]
    for engine in ENGINES:
        np.testing.assert_array_equal(engine(model)(x=x.astype(input_dtype(net)))["logits"], expected)
