"""Graphs of networks on onnxruntime and on the reference evaluator."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from hypothesis import settings

from export import onnx_graph
from export.onnx_graphs.graph import TAP, input_dtype
from export.onnx_graphs.session import reference_evaluator
from tests.helpers.networks import adversarial_inputs
from tsn_hw.core import reference
from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.layers import Linear
from tsn_hw.core.network import UNUSED, Bank, BankLayer, PackedNetwork, Requantization, Step, Task

EXAMPLES = settings.default.max_examples * 2 // 5
TABLE = json.loads((Path(__file__).parents[1] / "cases" / "requantize.json").read_text())
U8, S8, U16, S16 = (ActFormat(bits, signed, 0) for bits in (8, 16) for signed in (False, True))
CASES = [dict(zip(TABLE["columns"], row, strict=True)) for rows in TABLE["rules"].values() for row in rows]


def session(model, **options):
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    for name, value in options.items():
        setattr(settings, name, value)
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def on_onnxruntime(model):
    """A model as a function from named inputs to named outputs."""
    running = session(model)
    names = [output.name.removesuffix(TAP) for output in running.get_outputs()]
    return lambda **feeds: dict(zip(names, running.run(None, feeds), strict=True))


def on_evaluator(model):
    evaluator = reference_evaluator(model)

    def run(**feeds):
        with np.errstate(invalid="ignore"):  # its MaxPool pads uint8 tensors with NaN, be the padding empty or not
            values = evaluator.run(None, feeds)
        return {name.removesuffix(TAP): value for name, value in zip(evaluator.output_names, values, strict=True)}

    return run


ENGINES = [on_onnxruntime, on_evaluator]


def assert_equal_integers(net, task, form=None, engines=ENGINES, seed=0):
    x = adversarial_inputs(net, 6, seed)
    expected = reference.run(net, task, x)
    expected["logits"] = list(expected.values())[-1]
    model = onnx_graph(net, task, taps=True, form=form)
    onnx.checker.check_model(model, full_check=True)
    for engine in engines:
        outputs = engine(model)(x=x.astype(input_dtype(net)))
        assert outputs.keys() == expected.keys()
        for name, value in outputs.items():
            assert value.dtype == np.int32
            np.testing.assert_array_equal(value, expected[name], err_msg=f"{engine.__name__}, {form}, {name}")


def told(model):
    """What the metadata of a model tell."""
    (entry,) = model.metadata_props
    assert entry.key == "tsn_hw"
    return json.loads(entry.value)


def forms(model):
    layers = told(model)["layers"]
    return dict(zip(layers["name"], layers.get("form", []), strict=True))


def scale(multiplier, offset, shift, output=U8):
    """A requantization of every channel by multiplier / 2**shift."""
    return Requantization(np.array(multiplier), np.array(offset), shift, output)


def linear_network(weights, requantization, source=U8, centroid_bits=8, head_offset=0):
    """One task of one Linear "fc" with the given weights, and a head that passes its first output on."""
    weights = np.array(weights)
    book, code = np.unique(weights, return_inverse=True)
    layers = (Linear("fc", weights.shape[1], weights.shape[0]), Linear("head", weights.shape[0], 1, (0,)))
    first = np.eye(1, len(weights), dtype=bool)
    bank = Bank(
        (
            BankLayer(np.zeros(weights.shape), code.reshape(weights.shape), (book,), centroid_bits, 0),
            BankLayer(np.where(first, 0, UNUSED), np.zeros(first.shape), (np.array([1]),), 8, 0),
        )
    )
    steps = (Step(np.ones(weights.shape, bool), requantization), Step(first, scale([1], [head_offset], 0, None)))
    return PackedNetwork((weights.shape[1],), source, layers, (bank,), (Task("only", 0, ("yes",), steps),))


BEYOND_FLOAT32 = scale([1, 1], [2**24 + 1, -5], 2)
