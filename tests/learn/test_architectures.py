"""Shapes, weights and multiply-accumulates of the bodies, counted by hand or by the paper's specification."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from tests.helpers.learning import model_of, residual
from tsn_hw.core.errors import NetworkError, SettingsError
from tsn_hw.core.layers import INPUT, Add, Conv2d, Linear, MaxPool, Shape, Weighted
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.baselines import DenseModel
from tsn_hw.learn.bodies import alexnet, mlp, resnet18, tinynet


def macs(architecture: Architecture) -> int:
    shapes = architecture.shapes()
    return sum(
        layer.macs(architecture.input_shape if layer.inputs[0] == INPUT else shapes[layer.inputs[0]])
        for layer in architecture.layers
        if isinstance(layer, Weighted)
    )


def names(architecture: Architecture) -> list[str]:
    return [layer.name for layer in architecture.layers]


def test_the_permuted_mnist_body_has_88_400_weights() -> None:
    body = mlp((1, 28, 28), (100, 100))
    assert body.body_weights == 784 * 100 + 100 * 100 == 88_400
    assert macs(body) == 88_400
    assert names(body) == ["flatten", "fc1", "fc2"]
    assert body.features == 100


def test_the_alexnet_body_has_the_weights_and_macs_of_the_paper() -> None:
    body = alexnet((3, 32, 32))
    assert body.body_weights == 6_499_328
    assert macs(body) == 22_768_640
    assert body.features == 2048
    assert body.batch_norm


def test_the_alexnet_body_has_the_shapes_of_the_paper() -> None:
    body = alexnet((3, 32, 32))
    assert dict(zip(names(body), body.shapes(), strict=True)) == {
        "conv1": (64, 29, 29),
        "pool1": (64, 14, 14),
        "conv2": (128, 12, 12),
        "pool2": (128, 6, 6),
        "conv3": (256, 5, 5),
        "pool3": (256, 2, 2),
        "flatten": (1024,),
        "fc1": (2048,),
        "fc2": (2048,),
    }
    assert [layer.kernel for layer in body.layers if isinstance(layer, Conv2d)] == [(4, 4), (3, 3), (2, 2)]


def test_dropout_of_the_alexnet_has_the_shares_of_the_paper_after_pooling() -> None:
    assert alexnet((3, 32, 32)).dropout == pytest.approx(
        {"pool1": 0.2, "pool2": 0.2, "pool3": 0.5, "fc1": 0.5, "fc2": 0.5}
    )
    assert alexnet((1, 2, 2), (3, 4), (5,)).dropout == pytest.approx({"conv1": 0.2, "conv2": 0.5, "fc1": 0.5})
    assert alexnet((3, 32, 32), dropout=0.0).dropout == {}


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 64, 64), (3, 2, 2), (1, 1, 1), (2, 9, 2), (1, 5, 17)])
def test_the_alexnet_takes_images_of_any_size(shape: Shape) -> None:
    body = alexnet(shape, channels=(3, 4, 5), hidden=(6,))
    assert body.features == 6
    assert all(min(shape) >= 1 for shape in body.shapes())
    model = model_of(body, classes=4).eval()
    assert model(torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)), 0).shape == (2, 4)


def test_kernels_shrink_to_the_map_and_a_single_pixel_is_not_pooled() -> None:
    body = alexnet((3, 2, 2), channels=(3, 4, 5), hidden=(6,))
    assert [layer.kernel for layer in body.layers if isinstance(layer, Conv2d)] == [(2, 2), (1, 1), (1, 1)]
    assert not any(isinstance(layer, MaxPool) for layer in body.layers)


def test_layers_form_a_chain_that_starts_at_the_input() -> None:
    body = alexnet((1, 28, 28), channels=(2, 3), hidden=(4, 5))
    assert [layer.inputs for layer in body.layers] == [(i - 1,) for i in range(len(body.layers))]


def test_an_mlp_of_flat_features_needs_no_flatten() -> None:
    body = mlp((7,), (4,))
    assert body.layers == (Linear("fc1", 7, 4, (INPUT,)),)


def test_dropout_of_an_mlp_acts_on_its_input() -> None:
    assert mlp((1, 8, 8), dropout=0.3).dropout == {"flatten": 0.3}
    assert mlp((1, 8, 8)).dropout == {}


def test_a_handmade_body_with_every_kind_of_layer_knows_its_shapes() -> None:
    assert residual().shapes() == (
        (4, 7, 6), (4, 7, 6), (4, 7, 6), (4, 3, 3), (6, 4, 2), (6, 2, 1), (12,), (5,),
    )  # fmt: skip
    assert residual().body_weights == 72 + 24 + 48 + 60


@pytest.mark.parametrize("hidden", [(), (0,), (5, -1)])
def test_an_mlp_without_positive_widths_is_refused(hidden: tuple[int, ...]) -> None:
    with pytest.raises(SettingsError, match="'mlp': hidden="):
        mlp((1, 8, 8), hidden)


@pytest.mark.parametrize(("channels", "hidden"), [((), (4,)), ((4,), ()), ((0,), (4,)), ((4,), (3, 0))])
def test_an_alexnet_without_positive_widths_is_refused(channels: tuple[int, ...], hidden: tuple[int, ...]) -> None:
    with pytest.raises(SettingsError, match="'alexnet': channels="):
        alexnet((3, 32, 32), channels, hidden)


def test_an_alexnet_needs_images() -> None:
    with pytest.raises(SettingsError, match=r"needs images .* the data has \(64,\)"):
        alexnet((64,))


def test_a_body_whose_layers_do_not_fit_is_refused() -> None:
    with pytest.raises(NetworkError, match="'fc1': takes"):
        Architecture((1, 8, 8), (Linear("fc1", 64, 4),)).shapes()


def test_tinynet_has_the_weights_macs_and_shapes_of_the_paper() -> None:
    body = tinynet((3, 64, 64))
    assert body.body_weights == 2_743_520
    assert macs(body) == 83_886_080
    assert dict(zip(names(body), body.shapes(), strict=True)) == {
        "conv1": (160, 32, 32),
        "conv2": (160, 16, 16),
        "conv3": (160, 8, 8),
        "conv4": (160, 4, 4),
        "flatten": (2560,),
        "fc1": (640,),
        "fc2": (640,),
    }
    assert tinynet((3, 64, 64), dropout=0.5).dropout == {"fc1": 0.5, "fc2": 0.5}


@pytest.mark.parametrize(("width", "weights"), [(20, 1_090_140), (32, 2_790_240), (64, 11_159_232)])
def test_resnet18_has_the_weights_of_the_paper(width: int, weights: int) -> None:
    body = resnet18((3, 32, 32), width)
    assert body.body_weights == weights
    assert body.features == 8 * width


def test_the_macs_of_resnet18_are_those_of_a_table_made_by_hand() -> None:
    by_hand = {
        "stem": 32 * 32 * 27 * 20,
        "stage 1": 4 * 32 * 32 * 180 * 20,
        "stage 2": 16 * 16 * (180 * 40 + 3 * 360 * 40 + 20 * 40),
        "stage 3": 8 * 8 * (360 * 80 + 3 * 720 * 80 + 40 * 80),
        "stage 4": 4 * 4 * (720 * 160 + 3 * 1440 * 160 + 80 * 160),
    }
    assert macs(resnet18((3, 32, 32), 20)) == sum(by_hand.values()) == 54_620_160


def test_the_stem_of_resnet18_halves_images_of_more_than_32_pixels() -> None:
    assert resnet18((3, 32, 32), 2).shapes()[0] == (2, 32, 32)
    assert resnet18((3, 64, 64), 2).shapes()[0] == (2, 32, 32)


def test_the_blocks_of_resnet18_add_what_they_compute_to_what_they_got() -> None:
    body = resnet18((1, 8, 8), 2)
    layers = {layer.name: layer for layer in body.layers}
    places = {name: place for place, name in enumerate(layers)}
    assert sum(isinstance(layer, Add) for layer in body.layers) == 8
    assert layers["block2_add"].inputs == (places["block1_add"], places["block2_conv2"])
    assert layers["block3_add"].inputs == (places["block3_skip"], places["block3_conv2"])
    assert layers["block3_skip"].inputs == layers["block3_conv1"].inputs == (places["block2_add"],)
    assert body.signed == {f"block{block}_conv2" for block in range(1, 9)} | {f"block{b}_skip" for b in (3, 5, 7)}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: tinynet((64,)), "model 'tinynet': needs images (channels, height, width), the data has (64,)"),
        (lambda: resnet18((64,)), "model 'resnet18': needs images (channels, height, width), the data has (64,)"),
        (lambda: resnet18((3, 8, 8), 0), "model 'resnet18': width=0, must be at least 1"),
        (
            lambda: tinynet((3, 8, 8), (), (4,)),
            "model 'tinynet': channels=() and hidden=(4,) must hold widths of at least 1",
        ),
    ],
)
def test_what_is_no_body_is_refused(build: Callable[[], Architecture], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        build()
    assert str(error.value) == message


def test_channels_lie_last_in_memory_only_where_torch_is_right_about_it() -> None:
    assert alexnet((3, 32, 32)).channels_last
    assert tinynet((8, 64, 64), hidden=(8,)).channels_last
    assert not alexnet((2, 32, 32)).channels_last  # torch 2.13 corrupts its heap with two channels
    assert not alexnet((3, 32, 32), channels=(64, 12)).channels_last
    assert not tinynet((3, 1, 64), hidden=(8,)).channels_last  # and computes garbage where maps are one pixel high
    assert not mlp((3, 8, 8), (8,)).channels_last


@pytest.mark.parametrize("batch", [2, 5])
def test_gradients_are_the_same_with_channels_first_or_last(batch: int) -> None:
    bodies = [alexnet((3, 16, 16), (8, 16), (16,), dropout=0.0) for _ in range(2)]
    bodies[1].__dict__["channels_last"] = False  # a cached property
    images = torch.rand(batch, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    gradients, layouts = [], []
    for body in bodies:
        model = DenseModel(body, 3, torch.Generator().manual_seed(0))
        layouts.append(model.laid_out(images).is_contiguous())
        F.cross_entropy(model(images), torch.arange(batch) % 3).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert layouts == [False, True]
    for last, first in zip(*gradients, strict=True):
        torch.testing.assert_close(last, first, rtol=1e-3, atol=1e-5)
