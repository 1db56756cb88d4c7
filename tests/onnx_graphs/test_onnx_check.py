"""Exported files prove what they are: metadata, digests, golden logits; and every damage is refused in one line."""

import base64
import hashlib
import json
from contextlib import suppress

import numpy as np
import onnx
import pytest
from hypothesis import given, settings

from export import check_folder, write_onnx, write_onnx_shared
from export.onnx_graphs import files as onnx_files
from export.onnx_graphs.bank import bank_file, bank_layout, code_planes
from export.onnx_graphs.check import open_graph, read_graph
from export.onnx_graphs.metadata import Picture, golden_inputs, sealed
from tests.helpers.networks import Recipe, random_network, recipes
from tests.helpers.small_network import NET, other_network, put
from tsn_hw.app.cli.main import main
from tsn_hw.core import artifact, reference
from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.errors import ArtifactError, ExportError, FileError


def told(path):
    """What the metadata of a file tell."""
    (entry,) = onnx.load(path, load_external_data=False).metadata_props
    return json.loads(entry.value)


def digest(content):
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def rewritten(path, change):
    """Change a model and seal it again, as somebody would who makes a file look whole."""
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(sealed(model, {}))


def refusal(path):
    with pytest.raises(ArtifactError) as error:
        check_folder(path)
    return str(error.value).replace(f"{path}/", "")


# what a file tells --------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(recipes())
def test_golden_digests_are_those_of_the_int64_loops(tmp_path_factory, recipe):
    net, folder = random_network(recipe).first_tasks(1), tmp_path_factory.mktemp("golden")
    x = golden_inputs(net.input_shape, net.input)
    logits = list(reference.run(net, 0, x).values())[-1]
    expected = digest(logits.astype("<i4").tobytes())[:12]
    for write in (write_onnx, write_onnx_shared):
        write(net, folder)
        assert told(folder / "task_00.onnx")["golden"] == expected


def test_a_network_that_onnxruntime_computes_wrongly_is_not_exported(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_files, "run_graph", lambda model, feeds: [np.zeros((8, 2), np.int32)])
    with pytest.raises(ExportError) as error:
        write_onnx(NET, tmp_path)
    assert str(error.value) == (
        "task 'a': this onnxruntime gives other logits than the int64 loops for the golden inputs; "
        "try another version of it"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", [ActFormat(1, False, 0), ActFormat(8, True, -3), ActFormat(16, False, 0)])
def test_golden_inputs_use_the_whole_range_of_a_format(form):
    x = golden_inputs((3, 20, 20), form)
    assert x.shape == (8, 3, 20, 20)
    low, high = form.range
    assert low <= x.min() < low + 1 + (high - low) // 100
    assert high - (high - low) // 100 <= x.max() <= high


def test_a_file_holds_its_own_digest(tmp_path):
    for path in [*write_onnx(NET, tmp_path / "alone", fold=True), *write_onnx_shared(NET, tmp_path / "shared")]:
        if path.suffix == ".onnx":
            content, seal = path.read_bytes(), told(path)["sha256"]
            assert digest(content.replace(seal.encode(), b"A" * 43 + b"=")) == seal


def test_the_digest_of_words_is_that_of_the_words_under_the_mask(tmp_path):
    write_onnx_shared(NET, tmp_path)
    layers = told(tmp_path / "task_01.onnx")["layers"]
    digests = dict(zip(layers["name"], layers["words"], strict=True))
    # conv of b: owners 0 and 1, codes 1 and 0 of 1 bit; mix of b: owners 0 and 1, codes 0 and 2 of 2 bits
    expected = {"conv": [1, 2, *[-1] * 6], "mix": [0, -1, 6, *[-1] * 5]}
    for name, words in expected.items():
        assert digests[name] == digest(np.array(words, "<i4").tobytes())[:12]
    assert {digests[name] for name in digests if name not in expected} == {None}


def test_a_graph_file_reads_what_was_written(tmp_path):
    graph = open_graph(write_onnx(NET, tmp_path)[1])
    assert (graph.task, graph.classes, graph.told.output.exponent) == ("b", ("0", "1", "2"), -7)
    assert (graph.input_shape, graph.told.input, graph.input_dtype) == ((1, 3, 2), NET.input, np.uint8)
    assert graph.told.image == Picture("L", (3, 2), "bilinear", "CHW")


# what is refused ----------------------------------------------------------------------------------------------------


def test_whole_folders_pass(tmp_path):
    for number, write in enumerate((write_onnx, write_onnx_shared)):
        write(NET, tmp_path / str(number), fold=True)
        graphs = check_folder(tmp_path / str(number))
        assert [graph.task for graph in graphs] == ["a", "a", "b", "b"]


def test_a_truncated_bank_file_is_refused(tmp_path):
    write_onnx_shared(NET, tmp_path)
    bank = (tmp_path / "banks.bin").read_bytes()
    assert len(bank) == 258
    (tmp_path / "banks.bin").write_bytes(bank[:-1])
    assert refusal(tmp_path) == (
        "banks.bin: is truncated: task 'b' (task_01.onnx) reads 'conv.bank_masks1' in bytes 256..258 of 257"
    )


def test_every_altered_bit_that_a_task_reads_is_refused_and_no_other(tmp_path):
    net = random_network(Recipe(kind="mlp", tasks=3, density=0.5, seed=6))
    write_onnx_shared(net, tmp_path)
    bank = (tmp_path / "banks.bin").read_bytes()
    graphs = [read_graph(path) for path in sorted(tmp_path.glob("*.onnx"))]
    layout = bank_layout(net)
    (segment,) = layout.segments
    for place in np.random.default_rng(0).choice(8 * len(bank), 60, replace=False):
        altered = bytearray(bank)
        altered[place // 8] ^= 1 << (place % 8)
        (tmp_path / "banks.bin").write_bytes(altered)
        for task, graph in enumerate(graphs):
            if reads(net, segment, task, int(place)):
                with pytest.raises(ArtifactError, match="finds other words than were exported"):
                    open_graph(graph.path)
            else:
                assert open_graph(graph.path).task == net.tasks[task].name


def reads(net, segment, task, place):
    """Whether a task reads a bit of the bank file: codes under its mask, masks that tell it the owner, its own mask."""
    byte, bit = divmod(place, 8)
    for i, offsets in segment.codes.items():
        for offset in offsets[: code_planes(net.words(task, i), task)]:
            weight = bit * segment.layers[i] + byte - offset
            if offset <= byte < offset + segment.layers[i] and weight < net.step(task, i).mask.size:
                return bool(net.step(task, i).mask.flat[weight])
    for position, row in segment.masks.items():
        offset = row
        for i, size in segment.layers.items():
            weight = bit * size + byte - offset
            if offset <= byte < offset + size:
                mask = net.step(task, i).mask
                if weight >= mask.size or position > task:
                    return False
                owner = net.words(task, i).owner.flat[weight]
                return position == task or bool(mask.flat[weight] and position <= owner)
            offset += size
    return False


def test_a_bank_file_of_another_network_is_refused(tmp_path):
    write_onnx_shared(NET, tmp_path)
    other = put(NET, ("banks", 0, "layers", 1, "code"), np.array([[0, 0], [1, 1]])[:, :, None, None])
    (tmp_path / "banks.bin").write_bytes(bank_file(other, bank_layout(other)))
    assert refusal(tmp_path) == (
        "banks.bin: layer 'mix' of task 'b' (task_01.onnx) finds other words than were exported: the file was altered, "
        "or belongs to another network"
    )


def test_a_missing_bank_file_is_refused(tmp_path):
    write_onnx_shared(NET, tmp_path)
    (tmp_path / "banks.bin").unlink()
    with pytest.raises(FileError, match=r"cannot read .*/banks\.bin: No such file or directory"):
        check_folder(tmp_path)


def test_a_bank_file_elsewhere_is_refused(tmp_path):
    (_, path, _) = write_onnx_shared(NET, tmp_path)

    def move(model):
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = "../banks.bin"

    rewritten(path, move)
    assert refusal(tmp_path) == "task_00.onnx: 'conv.bank_masks' lies in '../banks.bin', must be banks.bin"


@pytest.mark.parametrize("write", [write_onnx, write_onnx_shared])
def test_every_altered_byte_of_a_graph_is_refused(tmp_path, write):
    *_, path = write(NET.first_tasks(1), tmp_path)
    content = path.read_bytes()
    for place in range(0, len(content), 97):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ArtifactError, match=r"task_00\.onnx: "):
            read_graph(path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match=r"task_00\.onnx: is no ONNX file, or damaged"):
        read_graph(path)


def test_other_pins_are_refused(tmp_path):
    path, _ = write_onnx(NET, tmp_path)
    rewritten(path, lambda model: setattr(model, "ir_version", 13))
    assert refusal(tmp_path) == "task_00.onnx: has IR 13 and opset 19, must have 9 and 19"
    rewritten(path, lambda model: setattr(model.opset_import[0], "version", 28))
    assert refusal(tmp_path) == "task_00.onnx: has IR 13 and opset 28, must have 9 and 19"


def test_a_graph_that_gives_other_logits_is_refused(tmp_path):
    path, _ = write_onnx(NET, tmp_path)

    def brighten(model):
        (offset,) = (tensor for tensor in model.graph.initializer if tensor.name == "conv.offset")
        offset.raw_data = np.array([9, 9], np.int32).tobytes()

    rewritten(path, brighten)
    assert refusal(tmp_path) == "task_00.onnx: task 'a': onnxruntime gives other logits than the int64 loops"


def test_a_graph_that_onnxruntime_cannot_load_is_refused(tmp_path):
    path, _ = write_onnx(NET, tmp_path)
    rewritten(path, lambda model: model.graph.initializer.pop())
    assert refusal(tmp_path).startswith("task_00.onnx: onnxruntime refuses it: ")


def test_the_files_of_a_network_tell_the_seals_of_its_tasks(tmp_path):
    seals = [base64.b64encode(bytes.fromhex(artifact.seal(NET, task)))[:8].decode() for task in range(2)]
    for write in (write_onnx, write_onnx_shared):
        write(NET, tmp_path / write.__name__, fold=True)
        folder = tmp_path / write.__name__
        networks = {path.name.partition(".")[0]: told(path)["network"] for path in folder.glob("*.onnx")}
        assert networks == {"task_00": seals[0], "task_01": seals[0] + seals[1]}


def test_a_folder_of_two_networks_is_refused(tmp_path):
    write_onnx(NET, tmp_path)
    write_onnx(other_network(), tmp_path / "other")
    (tmp_path / "other" / "task_01.onnx").rename(tmp_path / "task_01.onnx")
    assert refusal(tmp_path) == (
        "task_01.onnx: is of another network than task_00.onnx: a folder holds the graphs of one network"
    )


def test_files_of_others_are_refused(tmp_path):
    with pytest.raises(FileError, match=r"holds no \.onnx file"):
        check_folder(tmp_path)
    model = onnx.ModelProto(ir_version=8)
    (tmp_path / "other.onnx").write_bytes(model.SerializeToString())
    assert refusal(tmp_path) == "other.onnx: is no graph of tsn-hw of format 5, but None"


def forged(path, values):
    """The file with other metadata, whole by its digest."""
    model = onnx.load(path, load_external_data=False)
    onnx.helper.set_model_props(model, {"tsn_hw": json.dumps(values)})
    path.write_bytes(sealed(model, {}) if isinstance(values, dict) else model.SerializeToString())


def places(value, path=()):
    """Paths to all values within JSON."""
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield from places(entry, (*path, key))


def changed(value, path, new):
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


WRONG = (None, True, -1, 0, 3, 2**40, 1.5, "", "x" * 5000, [], {}, [1], ["a", None], {"a": {}}, [[[]]])


def test_forged_metadata_end_in_one_line(tmp_path):
    for path in write_onnx_shared(NET.first_tasks(1), tmp_path):
        if path.suffix == ".onnx":
            content, values = path.read_bytes(), told(path)
    refused, spots, rng = 0, list(places(values)), np.random.default_rng(0)
    for number in range(2000):
        new = WRONG[rng.integers(len(WRONG))]
        forged(path, changed(values, spots[rng.integers(len(spots))], new))
        try:
            read_graph(path)
        except ArtifactError as error:
            message, refused = str(error), refused + 1
            assert (message.startswith(f"{path}: "), "\n" in message, len(message) < 400) == (True, False, True)
            continue
        if number % 20 == 0:
            with suppress(ArtifactError):  # what reads as ours may still be wrong
                check_folder(tmp_path)
    assert 500 < refused < 1500
    path.write_bytes(content)
    assert len(check_folder(tmp_path)) == 1


def renamed(model):
    model.graph.input[0].name = "y"


def widened(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2**40


def signed(model):
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT8


def moved(model):
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "-1" if entry.key == "offset" else entry.value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed, "task_00.onnx: input: has shape (), must be (features,) or (channels, height, width)"),
        (widened, f"task_00.onnx: input: has shape ({2**40}, 3, 2), must be (features,) or (channels, height, width)"),
        (signed, "task_00.onnx: input: has no uint8, as its format says"),
        (moved, "task_00.onnx: 'conv.bank_masks' lies at '-1' in banks.bin, must be a number of bytes"),
    ],
)
def test_graphs_that_are_not_what_their_metadata_say_are_refused(tmp_path, change, message):
    rewritten(write_onnx_shared(NET, tmp_path)[1], change)
    assert refusal(tmp_path) == message


# the command --------------------------------------------------------------------------------------------------------


def test_the_command_checks_a_folder(tmp_path, capsys):
    write_onnx_shared(NET, tmp_path)
    assert main(["onnx", "--check", str(tmp_path)]) == 0
    assert "all 2 files are right" in capsys.readouterr().out
    (tmp_path / "banks.bin").write_bytes(b"")
    assert main(["onnx", "--check", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"tsn-hw: {tmp_path}/banks.bin: is truncated: task 'a' (task_00.onnx) reads ")
