"""What torch is set to: pinned while the simulator computes, by any number of threads, and given back."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from sim import Simulator
from sim.borrowed import exact_floats
from tests.helpers.handmade import S16, U8, network, requantization
from tests.helpers.simulators import assert_equals_reference
from tsn_hw.core.errors import EngineError
from tsn_hw.core.layers import Conv2d
from tsn_hw.core.network import PackedNetwork
from tsn_hw.core.reference import run

# --- what torch is set to ---------------------------------------------------------------------------------------------


def test_users_settings_come_back_even_after_an_error() -> None:
    nnpack, conv = torch.backends.nnpack, torch.backends.mkldnn.conv  # type: ignore[attr-defined]
    assert nnpack.set_flags(True) == (True,)
    conv.fp32_precision = "bf16"
    try:
        with torch.autocast("cpu"), pytest.raises(ZeroDivisionError), exact_floats():  # noqa: PT012
            assert not torch.is_autocast_enabled("cpu")
            assert conv.fp32_precision == "ieee"
            assert nnpack.set_flags(False) == (False,)
            raise ZeroDivisionError
        assert not torch.is_inference_mode_enabled()
        assert nnpack.set_flags(True) == (True,)
        assert conv.fp32_precision == "bf16"
    finally:
        conv.fp32_precision = "none"


CHANGED = (
    "simulator: another thread changed torch's settings (NNPACK, fp32_precision) while this one computed, so its "
    "integers may be wrong; change them before or after"
)


@pytest.fixture
def nnpack() -> Iterator[Callable[[bool], bool]]:
    """Sets the flag and gives what it was; it is on at first, and afterwards what it was before the test."""
    before = torch.backends.nnpack.set_flags(True)[0]
    yield lambda flag: torch.backends.nnpack.set_flags(flag)[0]
    torch.backends.nnpack.set_flags(before)


def in_a_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_settings_come_back_when_the_last_thread_is_done(nnpack: Callable[[bool], bool]) -> None:
    begun, ended = threading.Event(), threading.Event()
    seen: list[bool] = []

    def second() -> None:
        with exact_floats():
            begun.set()
            ended.wait(10)
            seen.append(nnpack(False))

    thread = threading.Thread(target=second)
    with exact_floats():
        thread.start()
        assert begun.wait(10)
    ended.set()
    thread.join()
    assert seen == [False]
    assert nnpack(True) is True


def test_a_setting_that_another_thread_changes_meanwhile_is_told_and_kept(nnpack: Callable[[bool], bool]) -> None:
    nnpack(False)
    with pytest.raises(EngineError, match=f"^{re.escape(CHANGED)}$"), exact_floats():
        in_a_thread(lambda: nnpack(True))
    assert nnpack(True) is True
    with exact_floats():
        assert nnpack(False) is False


def test_a_change_is_told_to_every_thread_that_computed_and_to_none_that_came_later(
    nnpack: Callable[[bool], bool],
) -> None:
    with pytest.raises(EngineError), exact_floats():  # noqa: PT012
        with pytest.raises(EngineError), exact_floats():
            nnpack(True)
        with exact_floats():  # sets it anew
            assert nnpack(False) is False
    assert nnpack(True) is True


def test_threads_at_once_compute_what_one_does(nnpack: Callable[[bool], bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)  # torch would take NNPACK then
    net, x = wide_convolution()
    expected = run(net, 0, x)["conv"]
    wrong = []

    def work() -> None:
        simulators = [Simulator(net, 0, int8=False) for _ in range(5)]
        wrong.extend(int((each.taps(x)["conv"] != expected).sum()) for each in simulators)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [0] * 15
    assert nnpack(True) is True


FORK = """
import os, signal, threading
import numpy as np, torch
from tests.helpers.handmade import U8, linear, requantization
from sim import Simulator
from sim.borrowed import exact_floats
from tsn_hw.core.reference import run

torch.set_num_threads(2)
net = linear(np.random.default_rng(0).integers(-7, 8, (200, 300)), requantization(U8, 6, channels=200), U8)
x = np.random.default_rng(1).integers(0, 256, (300, 300))
expected = run(net, 0, x)["head"]
for parent in (lambda: torch.ones(900, 900) @ torch.ones(900, 900), lambda: Simulator(net, 0)(x)):
    parent()  # starts torch's threads
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # ends a child that waits for ever
        os._exit(not np.array_equal(Simulator(net, 0)(x), expected))
    print(os.waitpid(child, 0)[1], torch.get_num_threads())
torch.backends.nnpack.set_flags(True)
begun, ended = threading.Event(), threading.Event()

def computing():
    with exact_floats():
        begun.set()
        ended.wait(20)

threading.Thread(target=computing).start()
begun.wait(20)
child = os.fork()  # while another thread has the settings
if child == 0:
    signal.alarm(20)
    os._exit(torch.backends.nnpack.set_flags(True) != (True,) or not np.array_equal(Simulator(net, 0)(x), expected))
print(os.waitpid(child, 0)[1], torch.backends.nnpack.set_flags(False)[0])
ended.set()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_of_a_process_that_computed_gives_the_same_logits() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", FORK], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "2", "0", "2", "0", "False"]


def wide_convolution() -> tuple[PackedNetwork, np.ndarray]:
    rng = np.random.default_rng(0)
    conv = Conv2d("conv", 16, 16, (3, 3), padding=(1, 1))
    weights = rng.choice([-127, -90, -3, 5, 64, 127], conv.weight_shape)
    net = network((16, 14, 14), U8, [(conv, weights, requantization(S16, shift=4, channels=16))])
    return net, rng.integers(0, 256, (16, 16, 14, 14))


def test_autocast_does_not_reach_the_simulator() -> None:
    net, x = wide_convolution()
    with torch.autocast("cpu"):
        assert_equals_reference(net, x)


def test_nnpack_is_kept_out(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = wide_convolution()
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)  # torch turns to NNPACK only without oneDNN
    weights = torch.from_numpy(net.weights(0, 0))
    exact = torch.conv2d(torch.from_numpy(x), weights, padding=1)
    unguarded = torch.conv2d(torch.from_numpy(x).float(), weights.float(), padding=1)
    if torch.equal(exact, unguarded.long()):
        pytest.skip("NNPACK does not run on this processor")
    assert int(exact.abs().max()) < 2**24
    assert_equals_reference(net, x, use_int8=False)
