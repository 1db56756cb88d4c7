"""Bodies that are listed layer by layer, in Python and in settings files, and what is said of a list that is wrong."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.learning import residual
from tests.helpers.tiny_run import TINY
from tsn_hw.core.errors import TsnError
from tsn_hw.core.layers import Conv2d, Linear, MaxPool, Shape
from tsn_hw.learn.architectures import Architecture, BodyBuilder
from tsn_hw.learn.bodies import alexnet, body_of, listed, mlp, resnet18, tinynet
from tsn_hw.learn.config import read_settings, settings_from_json, stream_of
from tsn_hw.learn.folder import settings_to_json
from tsn_hw.learn.run import load_run, train
from tsn_hw.learn.settings import LayerSettings, ModelSettings

FILE = """
[model]
kind = "layers"
batch_norm = true

[[model.layers]]
kind = "Conv2d"
name = "a"
width = 3
kernel = [3, 3]
padding = [1, 1]
dropout = 0.25

[[model.layers]]
kind = "Conv2d"
name = "b"
width = 3
kernel = [1]
groups = 3
relu = false

[[model.layers]]
kind = "Add"
name = "sum"
inputs = ["a", "b"]
clip = 6

[[model.layers]]
kind = "MaxPool"
name = "pool"
kernel = [2, 2]
"""


def test_a_settings_file_lists_a_body(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(FILE)
    body = body_of(read_settings(path).model, (2, 8, 8))
    assert [layer.name for layer in body.layers] == ["a", "b", "sum", "pool", "flatten"]
    assert body.layers[1] == Conv2d("b", 3, 3, (1, 1), groups=3, inputs=(0,))
    assert body.layers[2].inputs == (0, 1)
    assert body.layers[3] == MaxPool("pool", (2, 2), (2, 2), (2,))
    assert (body.batch_norm, body.signed, body.dropout, body.clips) == (True, {"b"}, {"a": 0.25}, {"sum": 6.0})
    assert body.body_weights == 3 * 2 * 9 + 3
    assert body.features == 3 * 4 * 4


@pytest.mark.parametrize(
    "body",
    [
        mlp((1, 8, 8), dropout=0.3),
        alexnet((3, 9, 9), (3, 4), (5,)),
        tinynet((3, 8, 8), (4, 4), (6,), dropout=0.5),
        resnet18((1, 8, 8), 2),
        residual(batch_norm=True),
        replace(residual(), batch_norm=frozenset({"stem"}), clips={"add": 6.0}),
    ],
)
def test_settings_that_describe_a_body_give_it_again(body: Architecture, tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(settings_to_json(replace(TINY, model=body.settings())))
    again = body_of(settings_from_json(path).model, body.input_shape)
    assert (again.layers, again.signed, again.dropout) == (body.layers, body.signed, body.dropout)
    assert [again.normalizes(layer) for layer in again.layers] == [body.normalizes(layer) for layer in body.layers]
    assert again.clips == body.clips


def test_signals_are_images_of_height_1() -> None:
    builder = BodyBuilder((6, 128))
    builder.add(LayerSettings("Conv2d", "conv", width=4, kernel=(9,), stride=(2,), padding=(4,)))
    assert builder.layers == [Conv2d("conv", 6, 4, (1, 9), (1, 2), (0, 4))]
    assert builder.shape == (4, 1, 64)
    builder.add(LayerSettings("MaxPool", "pool", kernel=(4,)))
    assert builder.shape == (4, 1, 16)
    assert builder.build().features == 64


def test_features_need_no_flatten() -> None:
    body = listed((7,), (LayerSettings("Linear", "fc", width=4),))
    assert body.layers == (Linear("fc", 7, 4),)


def test_a_run_of_a_listed_body_is_found_again_in_its_folder(tmp_path: Path) -> None:
    settings = replace(TINY, model=listed((1, 8, 8), CHAIN).settings())
    net = train(settings, stream_of(settings), tmp_path / "run", quiet=True)
    assert [layer.name for layer in net.layers[:4]] == ["a", "b", "average", "flatten"]
    kept = settings_from_json(tmp_path / "run" / "settings.json")
    assert kept == settings
    assert load_run(kept, stream_of(kept), tmp_path / "run").architecture.layers == net.layers[:4]


CHAIN = (
    LayerSettings("Conv2d", "a", width=3, kernel=(3, 3), batch_norm=True),
    LayerSettings("Conv2d", "b", width=3, kernel=(3, 3), groups=3, relu=False),
    LayerSettings("AvgPool", "average"),
)


@pytest.mark.parametrize(
    ("shape", "layers", "message"),
    [
        ((1, 8, 8), [], "model: the body has no layer with weights, needs one at least"),
        ((1, 8, 8), [LayerSettings("MaxPool", "p")], "model: the body has no layer with weights, needs one at least"),
        (
            (1, 8, 8),
            [LayerSettings("Linear", "fc", width=3)],
            "layer 'fc': a Linear reads features, its input is (1, 8, 8); put a Flatten before it",
        ),
        ((64,), [LayerSettings("MaxPool", "p")], "layer 'p': takes (channels, height, width), its input is (64,)"),
        ((64,), [LayerSettings("Linear", "fc")], "layer 'fc': width = 0, must be at least 1"),
        (
            (1, 8, 8),
            [LayerSettings("Conv2d", "c", width=2)],
            "layer 'c': kernel = []: must be one number or [height, width]",
        ),
        (
            (1, 8, 8),
            [LayerSettings("Conv2d", "c", width=2, kernel=(3, 3, 3))],
            "layer 'c': kernel = [3, 3, 3]: must be one number or [height, width]",
        ),
        (
            (1, 8, 8),
            [LayerSettings("Conv2d", "c", width=2, kernel=(9, 9))],
            "layer 'c': kernel (9, 9) does not fit its input (1, 8, 8) with padding (0, 0)",
        ),
        (
            (3, 8, 8),
            [LayerSettings("Conv2d", "c", width=2, kernel=(3, 3), groups=2)],
            "layer 'c': groups=2 does not divide 3 input and 2 output channels",
        ),
        ((4,), [LayerSettings("Linear", "input", width=2)], "layer 'input': the name is taken"),
        (
            (4,),
            [LayerSettings("Linear", "a", ("b",), 2), LayerSettings("Linear", "b", width=2)],
            "layer 'a': there is no layer 'b' before it",
        ),
        (
            (4,),
            [LayerSettings("Linear", "a", width=2), LayerSettings("Add", "sum", ("a",))],
            "layer 'sum': has 1 inputs, must have 2",
        ),
        (
            (4,),
            [LayerSettings("Linear", "a", width=2), LayerSettings("Add", "sum", ("a", "input"))],
            "layer 'sum': adds (2,) to (4,), the shapes must be equal",
        ),
    ],
)
def test_a_list_that_is_no_body_is_refused(shape: Shape, layers: list[LayerSettings], message: str) -> None:
    with pytest.raises(TsnError) as error:
        listed(shape, tuple(layers))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind = 'mlp'", "model.layers: belong to kind = 'layers', the kind is 'mlp'"),
        ("kind = 'layers'\ndropout = 0.5", "model.dropout = 0.5: 'layers' has none, must be 0"),
    ],
)
def test_keys_of_another_kind_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(FILE.replace('kind = "layers"', text))
    with pytest.raises(TsnError) as error:
        body_of(read_settings(path).model, (2, 8, 8))
    assert str(error.value) == message


def test_the_kind_of_a_layer_is_checked_in_python_too() -> None:
    with pytest.raises(TsnError) as error:
        LayerSettings("LSTM", "a")  # type: ignore[arg-type]
    assert str(error.value) == (
        "layer 'a': kind = 'LSTM': must be one of Linear, Conv2d, MaxPool, AvgPool, Add, Flatten, Pad"
    )


def test_a_body_without_layers_is_its_own_mistake() -> None:
    with pytest.raises(TsnError, match="no layer with weights"):
        body_of(ModelSettings("layers"), (1, 8, 8))
