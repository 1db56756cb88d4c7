"""Equal seeds give equal states, whatever stops and resumes in between."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers.learning import (
    FEW,
    TINY,
    assert_same_state,
    model_of,
    quantize_task,
    state_of,
    train_task,
)
from tsn_hw.learn.bodies import alexnet, mlp
from tsn_hw.learn.settings import TrainSettings
from tsn_hw.learn.training import (
    Fit,
    fit,
    generator_of,
    seed_of,
    start_task,
)

# --- determinism -------------------------------------------------------------------------------------------------


def learned_state(seed: int, global_seed: int) -> dict[str, Tensor]:
    torch.manual_seed(global_seed)
    np.random.seed(global_seed)
    model = model_of(alexnet((1, 8, 8), (3, 4), (8,), dropout=0.3))
    train_task(model, 0, FEW, replace(TINY, epochs=2), seed)
    torch.rand(global_seed)
    quantize_task(model, 0)
    return state_of(model)


def test_equal_seeds_give_bitwise_equal_states_whatever_the_global_random_state() -> None:
    first = learned_state(seed=5, global_seed=1)
    assert_same_state(first, learned_state(seed=5, global_seed=2))
    other = learned_state(seed=6, global_seed=1)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_training_leaves_the_global_random_state_alone() -> None:
    model = model_of(mlp((1, 8, 8), (8,), dropout=0.3))
    before = torch.get_rng_state()
    train_task(model, 0, FEW)
    assert torch.equal(torch.get_rng_state(), before)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("stop_after", [1, 2, 3])
@pytest.mark.parametrize(
    "settings",
    [
        replace(TINY, epochs=4),
        replace(TINY, epochs=4, ramp=0.7),
        replace(TINY, epochs=4, schedule="plateau", patience=1),
        replace(TINY, epochs=4, schedule="one_cycle"),
    ],
    ids=["cosine", "ramp", "plateau", "one_cycle"],
)
def test_a_fit_that_is_stopped_and_resumed_ends_bitwise_where_it_would_have_ended(
    settings: TrainSettings, stop_after: int
) -> None:
    architecture = mlp((1, 8, 8), (12,), batch_norm=True, dropout=0.2)
    whole, killed, resumed = (model_of(architecture, seed=seed) for seed in (0, 0, 9))
    train_task(whole, 0, FEW, settings)

    def kill(state: Fit) -> None:
        if state.epoch == stop_after:
            raise KilledError

    state = start_task(killed, 0, settings, 1)
    with pytest.raises(KilledError):
        fit(killed, 0, FEW, state, kill)
    resumed.load_state_dict(state_of(killed))
    again = start_task(resumed, 0, settings, 1)
    again.optimizer.load_state_dict(state.optimizer.state_dict())
    for name in ("lr", "epoch", "best_loss", "wait", "stopped", "best"):
        setattr(again, name, getattr(state, name))
    fit(resumed, 0, FEW, again, lambda _: None)
    assert_same_state(state_of(resumed), state_of(whole))
    assert torch.equal(resumed.body_layers(0)[1].subnet.mask(), whole.body_layers(0)[1].subnet.mask())


def test_seeds_are_the_same_on_every_machine() -> None:
    assert seed_of(0, "epoch", 1) == 1_583_786_290_671_302_529
    assert seed_of("a", "b") == seed_of("a/b") != seed_of("ab")
    assert 0 <= min(seed_of(i) for i in range(100)) <= max(seed_of(i) for i in range(100)) < 2**63
    assert generator_of(3, "x").initial_seed() == seed_of(3, "x")
