"""The driver against a board without hardware: what it packs, sends, waits for, and says when something is wrong."""

import dataclasses
import json
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from export import GoldenRun, write_hls
from export.hls.driver import REGISTERS, golden_npz
from tests.helpers.compiled_top import CompiledTop, needs_compiler
from tests.helpers.drivers import CONV, NETWORKS, X, board_of, exported, logits_of
from tests.helpers.fake_board import Board, Model
from tests.helpers.images import settings
from tests.helpers.networks import Recipe, adversarial_inputs, random_network
from tsn_hw.core import reference
from tsn_hw.core.arithmetic import quantize
from tsn_hw.core.network import PackedNetwork
from tsn_hw.hardware.pipeline import accelerator


@pytest.mark.parametrize("mask", ["deep", "runtime"])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_comes_back_are_the_integers_of_the_simulator(
    name: str, mask: str, driver: ModuleType, tmp_path: Path
) -> None:
    net = NETWORKS[name]
    design = accelerator(net, settings(net, pe=2, simd=2, mask=mask))
    _, on_board = board_of(driver, design, tmp_path, batch=5)
    for task in (1, 0, len(net.tasks) - 1):
        x = adversarial_inputs(net, 12, seed=task)  # three calls: two full ones and a short one
        on_board.set_task(task)
        found = on_board.run(x)
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, logits_of(net, task, x))
        classes = net.tasks[task].classes
        np.testing.assert_array_equal(on_board.classes(x), logits_of(net, task, x).argmax(axis=1))
        assert on_board.predict(x) == [classes[i] for i in logits_of(net, task, x).argmax(axis=1)]


@needs_compiler
@pytest.mark.parametrize(("name", "mask", "ram_style"), [("signed", "runtime", "auto"), ("residual", "deep", "ultra")])
def test_the_compiled_accelerator_answers_the_driver_with_the_integers_of_the_simulator(
    name: str, mask: str, ram_style: str, driver: ModuleType, tmp_path: Path
) -> None:
    net = NETWORKS[name]
    chosen = settings(net, pe=2, simd=2, mask=mask, max_tasks=4)
    units = {key: dataclasses.replace(unit, ram_style=ram_style) for key, unit in chosen.units.items()}
    design = accelerator(net, dataclasses.replace(chosen, units=units))
    x = adversarial_inputs(net, 1)
    write_hls(design, tmp_path / "project", golden=[GoldenRun(0, x, reference.run(net, 0, x))])
    board, on_board = board_of(driver, design, tmp_path / "project", CompiledTop(tmp_path / "project"), batch=5)
    for task in (1, 0, 1):
        x = adversarial_inputs(net, 12, seed=task)
        on_board.set_task(task)
        np.testing.assert_array_equal(on_board.run(x), logits_of(net, task, x))
    assert on_board.verify() == {task.name: 6 * len(task.classes) for task in net.tasks}
    if mask == "deep":
        check_run_tasks(net, on_board)
    else:
        with pytest.raises(driver.DriverError, match="holds one at a time"):
            on_board.run_tasks([1], x[:1])
    assert board.beats == []  # the accelerator read all that it was sent


def check_run_tasks(net: PackedNetwork, on_board: Any) -> None:
    """Inputs of tasks in any order give the logits of each, zeros behind them."""
    tasks = np.random.default_rng(0).integers(len(net.tasks), size=12).tolist()
    x = adversarial_inputs(net, 12)
    found = on_board.run_tasks(tasks, x), on_board.classes_of_tasks(tasks, x)
    for task, one, logits, largest in zip(tasks, x, *found, strict=True):
        own = len(net.tasks[task].classes)
        np.testing.assert_array_equal(logits[:own], logits_of(net, task, one[None])[0])
        assert largest == logits[:own].argmax()
        assert not logits[own:].any()


def test_what_lies_in_ultra_ram_is_loaded_once_before_the_first_task(driver: ModuleType, tmp_path: Path) -> None:
    for mask in ("deep", "runtime"):
        chosen = settings(CONV, mask=mask)
        units = {key: dataclasses.replace(unit, ram_style="ultra") for key, unit in chosen.units.items()}
        design = accelerator(CONV, dataclasses.replace(chosen, units=units))
        board, on_board = board_of(driver, design, tmp_path / mask)
        on_board.set_task(1)
        loaded = [task for command, task, _ in board.calls if command == 1]
        assert loaded == ([0xFFFF] if mask == "deep" else [0xFFFF, 0, 1])
        np.testing.assert_array_equal(on_board.run(X), logits_of(CONV, 1, X))


def test_activations_of_more_than_8_bits_travel_in_16(driver: ModuleType, tmp_path: Path) -> None:
    net = NETWORKS["4 bits"]
    wide = dataclasses.replace(net, input=dataclasses.replace(net.input, bits=11))
    design = accelerator(wide, settings(wide))
    _, on_board = board_of(driver, design, tmp_path)
    x = adversarial_inputs(wide, 9)
    assert on_board.pack(x).shape == (9, -(-x.shape[1] // 4))
    np.testing.assert_array_equal(on_board.run(x), logits_of(wide, 0, x))


def test_inputs_lie_in_beats_with_channels_innermost_and_zeros_behind_the_last(
    driver: ModuleType, tmp_path: Path
) -> None:
    net = random_network(Recipe(kind="conv", seed=12))  # 2 channels of 7 x 7 or so
    _, on_board = board_of(driver, accelerator(net, settings(net)), tmp_path)
    channels, height, width = net.input_shape
    x = np.arange(channels * height * width).reshape(1, *net.input_shape)
    octets = on_board.pack(x).view(np.uint8)[0].tolist()
    pixels = [int(x[0, c, i, j]) for i in range(height) for j in range(width) for c in range(channels)]
    assert octets == pixels + [0] * (-len(pixels) % 8)
    assert channels > 1


def test_reals_become_the_integers_that_the_network_takes(driver: ModuleType, tmp_path: Path) -> None:
    net = NETWORKS["signed"]
    _, on_board = board_of(driver, accelerator(net, settings(net)), tmp_path)
    grid = np.arange(-600, 600) / 2 * 2.0**net.input.exponent  # ties and both ends
    np.testing.assert_array_equal(on_board.quantize(grid), quantize(grid, net.input))


def test_a_task_is_loaded_when_it_changes_and_probed_before_it_runs(driver: ModuleType, tmp_path: Path) -> None:
    design = accelerator(CONV, settings(CONV, mask="runtime"))
    board, on_board = board_of(driver, design, tmp_path)
    beats = [len(design.load(task).beats) for task in range(3)]
    on_board.set_task("task2")
    on_board.set_task(2)
    on_board.set_task("0")
    assert board.calls == [
        *[(1, 0, beats[0]), (0, 0, 0)],
        *[(1, 2, beats[2]), (0, 2, 0)],
        (0, 2, 0),
        *[(1, 0, beats[0]), (0, 0, 0)],
    ]
    assert len(board.freed) == 3  # the packets' buffers


@pytest.mark.parametrize("task", [-1, 3, "task9", None, 1.0])
def test_a_task_that_is_not_there_is_refused(task: Any, driver: ModuleType, tmp_path: Path) -> None:
    _, on_board = board_of(driver, accelerator(CONV, settings(CONV)), tmp_path)
    with pytest.raises(driver.DriverError) as caught:
        on_board.set_task(task)
    assert str(caught.value) == f"task {task!r}: must be 0..2 or one of task0, task1, task2"


def test_inputs_that_do_not_fit_are_refused(driver: ModuleType, tmp_path: Path) -> None:
    net = NETWORKS["4 bits"]
    _, on_board = board_of(driver, accelerator(net, settings(net)), tmp_path)
    size = net.input_shape[0]
    for x, message in (
        (np.zeros((1, size + 1), int), f"int64 of shape (1, {size + 1}), must be integers of shape (inputs, {size})"),
        (np.zeros((0, size), int), f"int64 of shape (0, {size}), must be integers of shape (inputs, {size})"),
        (np.zeros((1, size)), f"float64 of shape (1, {size}), must be integers of shape (inputs, {size})"),
        (np.full((1, size), -9), "hold -9..-9, must lie in -8..7"),
        (np.full((1, size), 8), "hold 8..8, must lie in -8..7"),
    ):
        with pytest.raises(driver.DriverError) as caught:
            on_board.run(x)
        assert str(caught.value) == f"inputs: {message}"


# ----------------------------------------------------------------------------------------- when the hardware is wrong


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("accelerator", "task 0, inference of 2: no answer within "),
        ("send", "task 0, inference of 2: no answer within "),
        ("receive", "task 0, inference of 2: no answer within "),
    ],
)
def test_every_wait_has_a_time_out(what: str, message: str, driver: ModuleType, tmp_path: Path) -> None:
    board, on_board = board_of(driver, accelerator(CONV, settings(CONV)), tmp_path, timeout_s=0.05)
    board.hangs.add(what)
    start = time.monotonic()
    with pytest.raises(driver.DriverTimeoutError) as caught:
        on_board.run(adversarial_inputs(CONV, 2))
    assert time.monotonic() - start < 5
    assert str(caught.value).startswith(message)
    board.hangs.clear()
    with pytest.raises(driver.DriverError) as caught:
        on_board.run(adversarial_inputs(CONV, 2))
    assert str(caught.value).startswith(f"an earlier call failed ({message}")
    assert str(caught.value).endswith("; load the bitstream again")


def test_a_dma_that_does_not_reset_is_a_time_out_too(driver: ModuleType, tmp_path: Path) -> None:
    design = accelerator(CONV, settings(CONV))
    board = Board(Model(design), REGISTERS, hangs={"reset"})
    with pytest.raises(driver.DriverTimeoutError) as caught:
        driver.TsnAccelerator(exported(design, tmp_path), board.registers, board.dma, board.allocate, timeout_s=0.01)
    assert str(caught.value) == "reset of the DMA: no answer within 0.0 s"


def test_an_accelerator_that_is_still_busy_is_not_called_again(driver: ModuleType, tmp_path: Path) -> None:
    board, on_board = board_of(driver, accelerator(CONV, settings(CONV)), tmp_path)
    board.values[0] = 0
    with pytest.raises(driver.DriverError) as caught:
        on_board.set_task(1)
    assert str(caught.value) == "the accelerator is busy with a call that never ended; load the bitstream again"


def test_an_error_of_the_dma_and_a_short_packet_are_told(driver: ModuleType, tmp_path: Path) -> None:
    x = adversarial_inputs(CONV, 2)
    board, on_board = board_of(driver, accelerator(CONV, settings(CONV)), tmp_path / "a")
    board.dma_error = 0x40
    with pytest.raises(driver.DriverError) as caught:
        on_board.run(x)
    assert str(caught.value) == "DMA, send channel: error bits 0x40 (PG021, DMASR)"
    board, on_board = board_of(driver, accelerator(CONV, settings(CONV)), tmp_path / "b")
    board.lost_bytes = 4
    size = 2 * 4 * on_board.numbers.outputs
    with pytest.raises(driver.DriverError) as caught:
        on_board.run(x)
    assert str(caught.value) == f"task 0, inference of 2: received {size - 4} bytes instead of {size}"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (1, "there is no such task"),
        (2, "the task is not loaded"),
        (3, "unknown command"),
        (4, "what was loaded did not come whole, or is for another task or accelerator; nothing is loaded any more"),
        (9, "unknown status"),
    ],
)
def test_a_status_of_the_accelerator_is_told_in_words(
    status: int, text: str, driver: ModuleType, tmp_path: Path
) -> None:
    board, on_board = board_of(driver, accelerator(CONV, settings(CONV)), tmp_path)
    board.top = lambda *_: (status, [])
    with pytest.raises(driver.DriverError) as caught:
        on_board.set_task(1)
    assert str(caught.value) == f"task 1, inference of 0: {text} (status {status})"
    board.top = Model(on_board_design := accelerator(CONV, settings(CONV)))
    on_board.set_task(1)  # nothing was sent, so that the next call is as good as the first
    assert on_board.task == 1
    assert on_board_design.net is CONV


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-8], "holds {short} bytes instead of {size}; copy it again"),
        (lambda data: data + b"\0", "holds {long} bytes instead of {size}; copy it again"),
        (lambda data: data[:-1] + b"\1", "is not the file of accelerator.json; copy both from the same export"),
        (None, "cannot be read (No such file or directory)"),
    ],
    ids=["cut", "longer", "changed", "absent"],
)
def test_a_file_that_is_not_the_exported_one_is_told_before_anything_is_sent(
    damage: Any, message: str, driver: ModuleType, tmp_path: Path
) -> None:
    board, on_board = board_of(driver, accelerator(CONV, settings(CONV, mask="runtime")), tmp_path)
    calls, path = list(board.calls), tmp_path / "tasks/task_01.load"
    data = path.read_bytes()
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(data))
    with pytest.raises(driver.DriverError) as caught:
        on_board.set_task(1)
    size = len(data)
    assert str(caught.value) == f"{path}: {message.format(short=size - 8, long=size + 1, size=size)}"
    assert (board.calls, on_board.task) == (calls, 0)
    on_board.set_task(0)  # which is still loaded
    path.write_bytes(data)
    on_board.set_task(1)


def test_a_load_that_the_accelerator_refuses_is_told(driver: ModuleType, tmp_path: Path) -> None:
    """The files are right, but one of them came changed."""
    design = accelerator(CONV, settings(CONV, mask="runtime"))
    board, on_board = board_of(driver, design, tmp_path)
    board.top.design ^= 1
    with pytest.raises(driver.DriverError) as caught:
        on_board.set_task(1)
    beats = len(design.load(1).beats)
    assert str(caught.value) == f"task 1, load of {beats}: {driver.STATUS[4]} (status 4)"


@pytest.mark.parametrize("mask", ["deep", "runtime"])
def test_a_bitstream_of_other_files_is_refused_in_one_line(mask: str, driver: ModuleType, tmp_path: Path) -> None:
    """Of another folding; and of another network, unless all that differs is loaded."""
    made = accelerator(CONV, settings(CONV, mask=mask))
    root = exported(made, tmp_path)
    of_another = replace_a_centroid(CONV)
    others = {"design": accelerator(CONV, settings(CONV, pe=2, mask=mask))}
    others["network"] = accelerator(of_another, made.settings)
    assert others["network"].design_number == made.design_number
    for name, other in others.items():
        board = Board(Model(other), REGISTERS)
        if (mask, name) == ("runtime", "network"):
            assert other.network_number == made.network_number
            continue
        with pytest.raises(driver.DriverError) as caught:
            driver.TsnAccelerator(root, board.registers, board.dma, board.allocate)
        found, wanted = (getattr(each, f"{name}_number") for each in (other, made))
        assert str(caught.value) == (
            f"the bitstream is of another {name}: fingerprint 0x{found:08x}, accelerator.json says 0x{wanted:08x}; "
            "take both from the same export"
        )


def replace_a_centroid(net: PackedNetwork) -> PackedNetwork:
    """The same network with one centroid one lower, or one higher."""
    bank = net.banks[0]
    memory = next(each for each in bank.layers if each is not None)
    book = memory.codebooks[0].copy()
    book[-1] += 1 if book[-1] < 0 else -1
    changed = dataclasses.replace(memory, codebooks=(book, *memory.codebooks[1:]))
    layers = tuple(changed if each is memory else each for each in bank.layers)
    return dataclasses.replace(net, banks=(dataclasses.replace(bank, layers=layers), *net.banks[1:]))


def test_after_an_abort_inferences_go_on(driver: ModuleType, tmp_path: Path) -> None:
    design = accelerator(CONV, settings(CONV, mask="runtime"))
    board, on_board = board_of(driver, design, tmp_path, can_abort=True, timeout_s=0.05)
    on_board.set_task(1)
    board.hangs.add("accelerator")
    for message in (
        "task 1, inference of 3: no answer within ",
        "an earlier call failed (task 1, inference of 3: no an",
    ):
        with pytest.raises(driver.DriverError) as caught:
            on_board.run(X)
        assert str(caught.value).startswith(message)
    assert str(caught.value).endswith("; call abort()")
    board.hangs.clear()
    board.top.loaded.clear()  # what the abort of a load leaves
    on_board.abort()
    np.testing.assert_array_equal(on_board.run(X), logits_of(CONV, 1, X))


def test_an_accelerator_of_hls_has_no_abort(driver: ModuleType, tmp_path: Path) -> None:
    _, on_board = board_of(driver, accelerator(CONV, settings(CONV)), tmp_path)
    with pytest.raises(driver.DriverError) as caught:
        on_board.abort()
    told = "abort: what Vitis HLS makes has none, only a reset ends a call; load the bitstream again"
    assert str(caught.value) == told


# --------------------------------------------------------------------------------------------------- checks and figures


def test_verify_compares_the_golden_data_of_every_task(driver: ModuleType, tmp_path: Path) -> None:
    design = accelerator(CONV, settings(CONV, mask="runtime"))
    _, on_board = board_of(driver, design, tmp_path)
    assert on_board.verify() == {task.name: 6 * len(task.classes) for task in CONV.tasks}


def test_verify_names_the_first_logit_that_differs(driver: ModuleType, tmp_path: Path) -> None:
    _, on_board = board_of(driver, accelerator(CONV, settings(CONV)), tmp_path)
    path = tmp_path / "driver/golden.npz"
    with np.load(path) as golden:
        inputs, logits = golden["inputs"], golden["logits"].copy()
    right = logits[1, 3, 0]
    logits[1, 3, 0] += 1
    logits[2, 0, 0] += 1
    path.write_bytes(golden_npz(inputs, logits))
    with pytest.raises(driver.DriverError) as caught:
        on_board.verify()
    assert str(caught.value) == f"task 'task1', golden input 3: logit 0 is {right} instead of {right + 1}"


def test_throughput_counts_whole_batches(driver: ModuleType, tmp_path: Path) -> None:
    design = accelerator(CONV, settings(CONV))
    board, on_board = board_of(driver, design, tmp_path, batch=4)
    board.calls.clear()
    figures = on_board.throughput(count=10)
    assert board.calls == [(0, 0, 4)] * 3
    assert (figures["inferences"], figures["batch"]) == (12, 4)
    assert figures["inferences_per_second"] == pytest.approx(12 / figures["seconds"])
    slowest = max(unit.cycles for unit in design.units)
    assert figures["estimated_inferences_per_second"] == 100e6 / slowest


def test_a_transfer_is_never_longer_than_the_dma_can(driver: ModuleType, tmp_path: Path) -> None:
    design = accelerator(CONV, settings(CONV))
    root = exported(design, tmp_path)
    path = root / "driver/accelerator.json"
    values = json.loads(path.read_text())
    input_bytes = 8 * (driver.read_numbers(path).beats + 1)  # with a header
    for most, batch in ((3 * input_bytes, 3), (3 * input_bytes + 7, 3), (10**9, 256)):
        path.write_text(json.dumps(values | {"max_transfer_bytes": most}))
        board = Board(Model(design), REGISTERS)
        on_board = driver.TsnAccelerator(root, board.registers, board.dma, board.allocate)
        assert on_board.batch == batch
    path.write_text(json.dumps(values | {"max_transfer_bytes": input_bytes - 1}))
    with pytest.raises(driver.DriverError) as caught:
        driver.TsnAccelerator(root, board.registers, board.dma, board.allocate)
    elements = int(np.prod(CONV.input_shape))
    assert str(caught.value) == f"an input of {elements} activations is longer than a transfer may be"
