"""The estimate of instructions: what is counted, and that it is near to what qemu counts."""

import shutil

import numpy as np
import pytest

from benchmarks import bench_c
from benchmarks.bench_c_instructions import CORES, core_of, count, fitted
from benchmarks.nets import random_cnn, random_mlp
from export import GoldenRun, write_c
from export.c_code.estimate import WORK, cores, estimate_c, instructions_of, work
from export.c_code.sections import sections
from tsn_hw.core import reference


def test_the_work_of_a_linear_layer_is_its_weights_and_rows():
    net = random_mlp((50, 20, 4), density=0.25, seed=1)
    used = sum(int(np.count_nonzero(net.weights(0, index))) for index in (0, 1))
    made = sections(net, "speed")
    entries = sum(len(stored.listed.gaps) for stored in made.stored[0].values())
    done = work(net, 0, made)
    assert {name: units for name, units in done.items() if units} == {
        "layers": 2,
        "requantized": 24,
        "listed bytes": entries,
    }
    assert used <= entries <= used + 2  # of an even number in each layer
    estimate = estimate_c(net, "speed")
    assert (estimate.tasks[0].macs, estimate.tasks[0].used_macs) == (1080, used)


def test_a_fit_finds_what_made_the_counts_and_nothing_below_zero():
    features = np.random.default_rng(0).integers(1, 100, (9, 3)).astype(float)
    np.testing.assert_allclose(fitted(features, features @ [3.0, 0.0, 7.0]), [3, 0, 7], atol=1e-9)
    assert (fitted(features, features @ [3.0, -0.1, 7.0]) >= 0).all()


def test_errors_are_of_networks_that_were_left_out():
    def sample(name, units, instructions):
        return name, dict.fromkeys(WORK, 0) | {"products": units}, instructions

    core = core_of(CORES["Cortex-M4"], [sample("a", 10, 20), sample("b", 10, 20), sample("c", 10, 40)], 4000)
    assert core.worst_percent == 50.0  # the third, estimated from the others
    assert core.networks == 3


@pytest.mark.parametrize("name", ["Cortex-M0+", "Cortex-M4"])
def test_the_estimate_is_near_to_what_qemu_counts(tmp_path, name):
    for tool in CORES[name].machine.tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    net = random_mlp((120, 50, 6), density=0.3, seed=2)
    x = np.zeros((1, 120), np.int64)
    write_c(net, tmp_path / "c", golden=[GoldenRun(0, x, reference.run(net, 0, x))])
    counted = count(CORES[name], tmp_path / "c")
    assert counted > 0
    estimated = instructions_of(cores()[name], work(net, 0, sections(net, "balanced")))
    assert abs(estimated / counted - 1) < 0.25


@pytest.mark.parametrize("net", [random_cnn(), random_mlp((120, 50, 6), density=0.06)], ids=["convolutions", "mlp"])
def test_a_network_takes_fewer_instructions_than_a_dense_loop_with_the_same_logits(tmp_path, net):
    for tool in CORES["Cortex-M4"].machine.tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    write_c(net, tmp_path / "c", golden=list(bench_c.golden(net)))
    own, dense = bench_c.cortex_m4(tmp_path / "c", net)
    assert 0 < own < 0.8 * dense
