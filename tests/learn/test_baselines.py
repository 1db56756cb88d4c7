"""Dense float networks: what subnetworks are measured against."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.helpers.learning import assert_same_state, digits_data, digits_task, residual
from tsn_hw.core.errors import TrainingError
from tsn_hw.learn import baselines
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.baselines import DenseModel, fit_dense
from tsn_hw.learn.bodies import alexnet, mlp
from tsn_hw.learn.settings import TrainSettings
from tsn_hw.learn.training import Evaluation, evaluate, generator_of

SETTINGS = TrainSettings(epochs=8, batch=64, lr=5e-3)
FEW = digits_task(0, 70)


def state(model: DenseModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    "architecture",
    [mlp((1, 8, 8), (40,)), mlp((1, 8, 8), (40,), batch_norm=True), alexnet((1, 8, 8), (8, 8), (32,), dropout=0.1)],
    ids=["mlp", "mlp-norm", "alexnet"],
)
def test_a_dense_network_learns_the_permuted_digits(architecture: Architecture) -> None:
    model = fit_dense(architecture, digits_task(), 10, SETTINGS, seed=0)
    data = digits_data()
    test = evaluate(model, 0, torch.from_numpy(np.array(data.x_test)), torch.from_numpy(np.array(data.y_test)))
    assert test.accuracy > 75  # chance is 10


@pytest.mark.parametrize("best", [0, 1, 3])
def test_a_dense_network_ends_in_its_best_validation_state(monkeypatch: pytest.MonkeyPatch, best: int) -> None:
    states: list[dict[str, torch.Tensor]] = []

    def pretend(model: DenseModel, task: int, x: torch.Tensor, y: torch.Tensor) -> Evaluation:
        states.append(state(model))
        return Evaluation(0.5 if len(states) == best + 1 else 1.0 + len(states), 0.0)

    monkeypatch.setattr(baselines, "evaluate", pretend)
    model = fit_dense(mlp((1, 8, 8), (12,), batch_norm=True), FEW, 10, replace(SETTINGS, epochs=4), seed=0)
    assert_same_state(state(model), states[best])


def test_equal_seeds_give_bitwise_equal_networks_whatever_the_global_random_state() -> None:
    states = []
    for seed, disturbance in ((3, 1), (3, 2), (4, 1)):
        torch.manual_seed(disturbance)
        body = mlp((1, 8, 8), (12,), batch_norm=True, dropout=0.2)
        states.append(state(fit_dense(body, FEW, 10, replace(SETTINGS, epochs=2), seed)))
    assert_same_state(states[0], states[1])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_a_dense_network_whose_loss_is_never_finite_is_an_error() -> None:
    with pytest.raises(TrainingError, match="finite"):
        fit_dense(mlp((1, 8, 8), (12,)), FEW, 10, replace(SETTINGS, lr=1e38, epochs=2), seed=0)


def test_a_dense_network_has_the_layers_of_its_architecture() -> None:
    model = DenseModel(residual(), 3, generator_of(0)).eval()
    x = torch.rand(4, 2, 7, 6, generator=torch.Generator().manual_seed(0))
    conv = dict(model.weighted.items())
    stem = F.relu(conv["0"](x))
    joined = F.relu(stem + conv["1"](stem))
    down = conv["4"](F.max_pool2d(joined, 2))
    features = F.relu(conv["7"](F.avg_pool2d(down, (3, 2), (1, 1)).flatten(1)))
    torch.testing.assert_close(model(x), model.head(features))
    assert sum(module.weight.numel() for module in conv.values()) == residual().body_weights
    assert all((module.bias == 0).all() for module in [*conv.values(), model.head])


def test_batch_norm_takes_the_place_of_biases() -> None:
    model = DenseModel(residual(batch_norm=True), 3, generator_of(0))
    assert set(model.norms) == set(model.weighted) == {"0", "1", "4", "7"}
    assert all(module.bias is None for module in model.weighted.values())
    assert model.head.bias is not None
