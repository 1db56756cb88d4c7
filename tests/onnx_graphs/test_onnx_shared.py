"""Graphs around one shared bank file: the same integers, files that stay as they are, and how small it all is."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings

from export import check_folder, onnx_graph, write_onnx, write_onnx_shared
from export.onnx_graphs import files as onnx_files
from export.onnx_graphs.bank import bank_file, bank_layout
from export.onnx_graphs.graph import input_dtype
from export.onnx_graphs.session import reference_evaluator
from tests.helpers.networks import MASKS, Recipe, adversarial_inputs, random_network, recipes
from tests.helpers.small_network import NET, U8, other_network, scale, step, words
from tsn_hw.core import artifact, reference
from tsn_hw.core.errors import ExportError, FileError
from tsn_hw.core.layers import Linear
from tsn_hw.core.network import UNUSED, Bank, BankLayer, PackedNetwork, Task

ROOT = Path(__file__).parents[2]
EXAMPLES = settings.default.max_examples // 4


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A folder that every example of a property empties for itself."""
    return tmp_path_factory.mktemp("shared")


def on_onnxruntime(path, x):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def on_evaluator(path, x):
    with np.errstate(invalid="ignore"):  # its MaxPool pads uint8 tensors with NaN, be the padding empty or not
        return reference_evaluator(onnx.load(path)).run(None, {"x": x})[0]


def assert_right(net, folder, tasks, engines=(on_onnxruntime, on_evaluator), seed=0):
    x = adversarial_inputs(net, 6, seed)
    for task in tasks:
        expected = list(reference.run(net, task, x).values())[-1]
        for engine in engines:
            logits = engine(folder / f"task_{task:02d}.onnx", x.astype(input_dtype(net)))
            np.testing.assert_array_equal(logits, expected, err_msg=f"{engine.__name__}, task {task}")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def emptied(folder):
    shutil.rmtree(folder)
    folder.mkdir()
    return folder


def grow(net, folder):
    """Export a network of more and more tasks into one folder; the graphs that are there must not change."""
    before, tasks = {}, len(net.tasks)
    for count in sorted({1, min(2, tasks), max(1, tasks - 1), tasks}):
        write_onnx_shared(net.first_tasks(count), folder)
        now = contents(folder)
        bank = now.pop("banks.bin")
        assert before.items() <= now.items()
        before = now
    return bank


# the same integers, whatever comes later ----------------------------------------------------------------------------


@settings(max_examples=EXAMPLES)
@given(recipe=recipes())
def test_random_networks_grow_task_by_task_and_every_task_stays_right(scratch, recipe):
    net = random_network(recipe)
    folder = emptied(scratch)
    bank = grow(net, folder)
    assert bank == bank_file(net, bank_layout(net))
    assert_right(net, folder, range(len(net.tasks)), [on_onnxruntime], recipe.seed)
    assert_right(net, folder, {0, len(net.tasks) - 1}, [on_evaluator], recipe.seed)
    assert len(check_folder(folder)) == len(net.tasks)


CORNERS = {
    "all masks empty": Recipe(tasks=3, mask_kinds=("empty",)),
    "all masks full: later tasks own nothing": Recipe(kind="conv", tasks=3, mask_kinds=("full",)),
    "one weight a layer": Recipe(tasks=4, mask_kinds=("one weight",)),
    "codes of 1 to 8 bits, 16-bit centroids": Recipe(
        kind="residual", tasks=7, code_bits=(1, 8), centroid_bits=16, act_bits=16, multipliers=True
    ),
    "12 tasks in 3 banks": Recipe(kind="conv", tasks=12, banks=3, code_bits=(1, 8), mask_kinds=MASKS, seed=3),
    "40 tasks": Recipe(tasks=40, density=0.05, seed=1),
}


@pytest.mark.parametrize("corner", CORNERS)
def test_corner_cases(tmp_path, corner):
    net = random_network(CORNERS[corner])
    write_onnx_shared(net.first_tasks(1), tmp_path)
    write_onnx_shared(net, tmp_path)
    assert_right(net, tmp_path, range(len(net.tasks)), [on_onnxruntime])
    assert_right(net, tmp_path, {0, len(net.tasks) - 1}, [on_evaluator])


def late_layer_network():
    """The second task runs a layer of the body that the first does not; the third has wider codes than both."""
    layers = (
        Linear("first", 2, 2),
        Linear("late", 2, 2, (0,)),
        Linear("head_a", 2, 1, (0,)),
        Linear("head_b", 2, 1, (1,)),
        Linear("head_c", 2, 1, (1,)),
    )
    head = [[0, 0]]
    bank = Bank(
        (
            words([[0, 1], [2, UNUSED]], [[1, 0], [2, 0]], [5, -6], [7], [1, 2, -128]),
            words([[1, 2], [1, UNUSED]], [[0, 3], [1, 0]], [], [10, 20], [1, 2, 3, 4]),
            *(words([[t, t]], head, *[[3] if i == t else [] for i in range(3)]) for t in range(3)),
        )
    )
    full, last = [[1, 1]], scale(1, 0, None)
    a = (step([[1, 0], [0, 0]], scale(2)), None, step(full, last), None, None)
    b = (step([[1, 1], [0, 0]], scale(2)), step([[1, 0], [1, 0]], scale(2)), None, step(full, last), None)
    c = (step([[0, 1], [1, 0]], scale(2)), step([[1, 1], [0, 0]], scale(2)), None, None, step(full, last))
    tasks = tuple(Task(name, 0, ("yes",), steps) for name, steps in zip("abc", (a, b, c), strict=True))
    return PackedNetwork((2,), U8, layers, (bank,), tasks)


def test_a_layer_that_enters_the_bank_later_and_codes_that_grow_wider(tmp_path):
    net = late_layer_network()
    grow(net, tmp_path)
    assert_right(net, tmp_path, range(3))
    assert [op.op_type for op in onnx.load(tmp_path / "task_02.onnx").graph.node].count(
        "Concat"
    ) == 4  # codes and masks of two layers


def test_a_task_that_leaves_out_a_layer_of_its_bank(tmp_path):
    layers = (
        Linear("first", 2, 2),
        Linear("late", 2, 2, (0,)),
        Linear("head_a", 2, 1, (1,)),
        Linear("head_b", 2, 1, (0,)),
    )
    bank = Bank(
        (
            words([[0, 1], [0, UNUSED]], [[0, 0], [1, 0]], [5, -6], [7]),
            words([[0, 0], [UNUSED, 0]], [[0, 1], [0, 0]], [10, 20], []),
            words([[0, 0]], [[0, 0]], [3], []),
            words([[1, 1]], [[0, 0]], [], [4]),
        )
    )
    head = (step([[1, 1]], scale(1, 0, None)),)
    a = (step([[1, 0], [1, 0]], scale(2)), step([[1, 1], [0, 1]], scale(2)), *head, None)
    b = (step([[1, 1], [0, 0]], scale(2)), None, None, *head)
    net = PackedNetwork((2,), U8, layers, (bank,), (Task("a", 0, ("yes",), a), Task("b", 0, ("yes",), b)))
    grow(net, tmp_path)
    assert_right(net, tmp_path, range(2))
    assert len(check_folder(tmp_path)) == 2


def test_wide_centroids_that_a_task_does_not_read_leave_its_layer_in_bytes(tmp_path):
    body = BankLayer(np.array([[0, 0]]), np.array([[0, 1]]), (np.array([5, 300]), np.array([], int)), 16, 0)
    layers = (Linear("body", 2, 1), Linear("head_a", 1, 1, (0,)), Linear("head_b", 1, 1, (0,)))
    bank = Bank((body, words([[0]], [[0]], [3], []), words([[1]], [[0]], [], [4])))
    head = step([[1]], scale(1, 0, None))
    tasks = (
        Task("a", 0, ("yes",), (step([[1, 1]], scale(1, 9)), head, None)),
        Task("b", 0, ("yes",), (step([[1, 0]], scale(1)), None, head)),
    )
    net = PackedNetwork((2,), U8, layers, (bank,), tasks)
    grow(net, tmp_path)
    assert_right(net, tmp_path, range(2))
    tables = [onnx.load(tmp_path / f"task_{task:02d}.onnx").graph.initializer for task in range(2)]
    dtypes = [{t.name: t.data_type for t in table}["body.codebook"] for table in tables]
    assert dtypes == [onnx.TensorProto.INT16, onnx.TensorProto.UINT8]


def test_the_bank_file_holds_code_planes_and_masks():
    content = bank_file(NET, bank_layout(NET))
    regions = {start: content[start : start + 64].rstrip(b"\0") for start in range(0, len(content), 64)}
    # conv: owners 0 1, codes 1 0. mix: owners 0 - 1 0, codes 0 0 2 1. Masks: a 1 0 and 1 0 0 1, b 1 1 and 1 0 1 0
    assert regions == {
        0: b"\x01",  # conv, bit 0 of the codes
        64: b"\x08",  # mix, bit 0
        128: b"\x01\x09",  # masks of a in conv and mix
        192: b"\x04",  # mix, bit 1, which only b needs
        256: b"\x03\x05",  # masks of b
    }


def test_words_that_no_task_uses_are_zero():
    net = random_network(Recipe(tasks=1, density=0.3, seed=2))
    layout = bank_layout(net)
    content = np.frombuffer(bank_file(net, layout), np.uint8)
    for segment in layout.segments:
        for i, offsets in segment.codes.items():
            used = net.step(0, i).mask.reshape(-1)
            for offset in offsets:
                plane = content[offset : offset + segment.layers[i]]
                bits = np.unpackbits(plane[None], axis=0, bitorder="little").reshape(-1)
                assert bits[: used.size][used].any()
                assert not bits[: used.size][~used].any()


def test_no_content_of_a_bank_file_leads_outside_of_the_codebooks(tmp_path):
    net = random_network(Recipe(kind="conv", tasks=6, code_bits=(1, 5), seed=4))
    write_onnx_shared(net, tmp_path)
    size = (tmp_path / "banks.bin").stat().st_size
    x = adversarial_inputs(net, 2).astype(input_dtype(net))
    for garbage in (b"\xff" * size, np.random.default_rng(0).bytes(size)):
        (tmp_path / "banks.bin").write_bytes(garbage)
        for path in sorted(tmp_path.glob("*.onnx")):
            np.testing.assert_array_equal(on_onnxruntime(path, x), on_evaluator(path, x))


def test_bits_that_a_task_does_not_read_may_be_anything(tmp_path):
    net = late_layer_network()
    write_onnx_shared(net.first_tasks(1), tmp_path)
    bank = bytearray((tmp_path / "banks.bin").read_bytes())
    bank[0] |= 0b1110  # codes of "first" outside of the mask of a
    (tmp_path / "banks.bin").write_bytes(bank + b"later tasks")
    assert_right(net, tmp_path, [0])
    check_folder(tmp_path)


def test_onnxruntime_folds_the_lookups_of_external_words(tmp_path, capfd):
    write_onnx_shared(NET, tmp_path)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    kinds = []
    for model in (str(tmp_path / "task_01.onnx"), onnx_graph(NET, 1).SerializeToString()):
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        kinds.append([node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node])
    assert kinds[0] == kinds[1]
    assert "Gather" not in kinds[0]
    assert capfd.readouterr() == ("", "")


def test_graphs_refer_to_aligned_planes_of_the_file_beside_them(tmp_path):
    write_onnx_shared(random_network(Recipe(kind="conv", tasks=5, banks=2)), tmp_path)
    for path in tmp_path.glob("*.onnx"):
        model = onnx.load(path, load_external_data=False)
        places = [{e.key: e.value for e in t.external_data} for t in model.graph.initializer if t.external_data]
        assert places
        assert {place["location"] for place in places} == {"banks.bin"}
        assert all(int(place["offset"]) % 64 == 0 for place in places)
        onnx.checker.check_model(str(path), full_check=True)


# what is overwritten, and what is not -------------------------------------------------------------------------------


def test_the_same_network_gives_the_same_files(tmp_path):
    paths = write_onnx_shared(NET, tmp_path)
    assert [path.name for path in paths] == ["banks.bin", "task_00.onnx", "task_01.onnx"]
    before = contents(tmp_path)
    write_onnx_shared(NET, tmp_path)
    assert contents(tmp_path) == before


def test_another_network_of_as_many_tasks_replaces_all_files(tmp_path):
    write_onnx_shared(NET, tmp_path)
    write_onnx_shared(other_network(), tmp_path)
    assert_right(other_network(), tmp_path, range(2))


@pytest.mark.parametrize("net", [other_network().first_tasks(1), NET.first_tasks(1)], ids=["other", "shorter"])
@pytest.mark.parametrize("write", [write_onnx, write_onnx_shared])
@pytest.mark.parametrize("earlier", [write_onnx, write_onnx_shared])
def test_graphs_of_ours_that_the_network_does_not_have_are_removed(tmp_path, net, write, earlier):
    earlier(NET, tmp_path, fold=True)
    written = write(net, tmp_path)
    assert sorted(contents(tmp_path)) == sorted(path.name for path in written)
    assert_right(net, tmp_path, [0])
    assert [graph.task for graph in check_folder(tmp_path)] == ["a"]


@pytest.mark.parametrize("name", ["task_00.onnx", "resnet.onnx"])
@pytest.mark.parametrize("write", [write_onnx, write_onnx_shared])
def test_nothing_is_written_beside_graphs_of_others(tmp_path, name, write):
    model = onnx.helper.make_model(onnx.helper.make_graph([], "theirs", [], []))
    (tmp_path / name).write_bytes(model.SerializeToString())
    before = contents(tmp_path)
    with pytest.raises(ExportError) as error:
        write(NET, tmp_path)
    assert str(error.value) == f"{tmp_path}/{name}: is no graph of tsn-hw; choose another folder, or move it away"
    assert contents(tmp_path) == before


def test_earlier_tasks_are_right_if_writing_stops_after_any_file(tmp_path, monkeypatch):
    net = random_network(Recipe(tasks=4, code_bits=(1, 6), seed=9))
    for stop in range(4):
        folder = tmp_path / str(stop)
        write_onnx_shared(net.first_tasks(2), folder)
        write, written = onnx_files.write_atomically, []

        def stopping(path, data, write=write, written=written, stop=stop):
            if len(written) == stop:
                raise FileError("the disk is full")
            written.append(path)
            write(path, data)

        with monkeypatch.context() as patch:
            patch.setattr(onnx_files, "write_atomically", stopping)
            with pytest.raises(FileError, match="the disk is full"):
                write_onnx_shared(net, folder)
        check_folder(folder)
        assert_right(net, folder, range(2), [on_onnxruntime])


def test_no_graph_is_wrong_if_replacing_another_network_stops_after_the_bank_file(tmp_path, monkeypatch):
    write_onnx_shared(NET, tmp_path)
    write = onnx_files.write_atomically

    def stopping(path, data):
        if path.name != "banks.bin":
            raise FileError("the disk is full")
        write(path, data)

    monkeypatch.setattr(onnx_files, "write_atomically", stopping)
    with pytest.raises(FileError, match="the disk is full"):
        write_onnx_shared(other_network(), tmp_path)
    assert sorted(contents(tmp_path)) == ["banks.bin"]


KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from export import write_onnx_shared
from tsn_hw.core import artifact

def kill_at_step(step, folder):
    def hook(event, arguments):
        nonlocal step
        if event in ("open", "os.chmod", "os.rename", "os.remove") and str(arguments[0]).startswith(str(folder)):
            if step == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            step -= 1
    sys.addaudithook(hook)

net, step, killed = artifact.load(Path(sys.argv[1])), 0, True
while killed:
    folder = Path(sys.argv[2]) / str(step)
    child = os.fork()
    if not child:
        write_onnx_shared(net.first_tasks(2), folder)
        kill_at_step(step, folder)
        write_onnx_shared(net, folder)
        os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    step += 1
print(step)
"""


def test_every_graph_is_right_if_the_process_is_killed_at_any_step_of_the_writing(tmp_path):
    net = random_network(Recipe(tasks=4, code_bits=(1, 6), seed=9))
    artifact.save(net, tmp_path / "net.tsn")
    command = [sys.executable, "-c", KILLED_WRITER, tmp_path / "net.tsn", tmp_path]
    steps = int(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout)
    assert steps > 3 * 4  # at least: open, chmod and rename of the bank file and two graphs, and the run to the end
    graphs = []
    for stopped in range(steps):
        folder = tmp_path / str(stopped)
        graphs.append([path.name for path in sorted(folder.glob("*.onnx"))])
        check_folder(folder)
        assert_right(net, folder, range(len(graphs[-1])), [on_onnxruntime])
    assert graphs[0] == ["task_00.onnx", "task_01.onnx"]
    assert graphs == sorted(graphs)
    assert graphs[-1] == [f"task_{task:02d}.onnx" for task in range(4)]
