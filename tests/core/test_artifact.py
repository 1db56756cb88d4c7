"""The .tsn file: every network back, byte for byte; every damage found; seals that prove zero forgetting."""

import bz2
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.networks import Recipe, random_network, recipes
from tests.helpers.small_network import CONV, HEAD_A, MIX, NET, U8, content, put, scale, words
from tests.helpers.tsn_files import (
    SMALL,
    first_version_of,
    forgotten_tasks,
    header_of,
    one_layer_network,
    refusal,
    sealed_up_first_version,
    set_at,
)
from tsn_hw.core import writing
from tsn_hw.core.artifact import after_each_task, from_bytes, load, save, seal, sections, to_bytes
from tsn_hw.core.errors import ArtifactError, FileError
from tsn_hw.core.layers import Flatten, Linear
from tsn_hw.core.masks import encode_masks
from tsn_hw.core.network import UNUSED, Bank, PackedNetwork, Requantization

# the whole file -----------------------------------------------------------------------------------------------------


def test_a_whole_file():
    data = to_bytes(one_layer_network())
    header = {
        "input": {"shape": [2], "format": [8, False, 0]},
        "layers": [{"kind": "Linear", "name": "head", "in_features": 2, "out_features": 2, "inputs": [-1]}],
        "banks": [[{"layer": 0, "centroid_bits": 8, "exponent": -7, "first": 0, "entries": [3]}]],
        "tasks": [{"name": "only", "bank": 0, "classes": ["no", "yes"], "steps": [[0, 1, 3, 2]]}],
        "sizes": [2, 1, 3, 2, 0],
    }
    masks = bytes([0x00, 0b10110000])  # stored plainly
    codes = bytes([0b01_00_10_00])
    codebooks = bytes([0xFD, 0x05, 0x07])
    requantization = bytes([0b001_011_00, 0b10_000000])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    packed = bz2.compress(text, 9)
    rest = packed + masks + codes + codebooks + requantization
    head = b"TSN2" + len(packed).to_bytes(4, "little")
    assert data == head + hashlib.sha256(head + rest).digest() + rest
    assert content(from_bytes(data)) == content(one_layer_network())
    assert sections(data) == {
        "bank0/head/masks": masks,
        "bank0/head/codes": codes,
        "bank0/head/codebooks": codebooks,
        "task0/requantization": requantization,
    }


def test_the_bytes_of_a_file_are_pinned():
    """A change here is a new format version: files that people have must still be read."""
    assert (
        hashlib.sha256(to_bytes(one_layer_network())).hexdigest()
        == "a48ab2271e85c82ea4df7268f00081036c87e01dee6141212c56c1bb61f12a4b"
    )


def test_a_header_grows_with_tasks_not_with_their_square():
    def header_bytes(tasks):
        data = to_bytes(random_network(Recipe("mlp", tasks)))
        return len(data) - sum(map(len, sections(data).values()))

    assert header_bytes(64) < 2.2 * header_bytes(32)


# version 1 ----------------------------------------------------------------------------------------------------------

FIRST = (Path(__file__).parents[1] / "cases" / "version1.tsn").read_bytes()


def test_a_file_of_version_1_is_the_network_that_was_written():
    assert content(from_bytes(FIRST)) == content(NET)
    assert sections(FIRST) == sections(to_bytes(NET))


def test_version_1_had_an_entry_for_every_owner_and_layer():
    """Of two banks: what is not there is left out today."""
    net = random_network(Recipe("conv", 5, 2, seed=3))
    parts, empty = sections(to_bytes(net)), [None] * len(net.layers)
    header = header_of(to_bytes(net))
    banks = [list(empty) for _ in net.banks]
    for number, (bank, held) in enumerate(zip(banks, header["banks"], strict=True)):
        for entry in held:
            books = net.banks[number].layers[entry["layer"]].codebooks
            bank[entry["layer"]] = {k: entry[k] for k in ("centroid_bits", "exponent")} | {
                "entries": list(map(len, books))
            }
    for number, task in enumerate(header["tasks"]):
        steps = {layer: step for layer, *step in task["steps"]}
        task |= {"steps": [steps.get(i) for i in range(len(empty))], "seal": seal(net, number)}
    header |= {"format": "tsn", "version": 1, "banks": banks}
    assert content(from_bytes(sealed_up_first_version(header, parts))) == content(net)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_at("format", value="zip"), "format 'zip', must be 'tsn'"),
        (set_at("version", value=2), "header: version = 2: must be one of 1"),
        (set_at("version", value=True), "header: version = True: must be one of 1"),
        (set_at("author", value="me"), "header: unknown key 'author'"),
        (set_at("banks", 0, value=[]), "header: banks[0]: 0 entries, must be 8"),
        (set_at("banks", 0, 0, "entries", value=[2, 1, 0]), "header: banks[0][0]: 3 codebooks for 2 tasks"),
        (set_at("tasks", 0, "steps", value=[]), "header: tasks[0]: steps: 0 entries, must be 8"),
        (set_at("tasks", 0, "steps", 0, value=[1, 0, 0, 8]), "header: tasks[0]: steps[0]: 5 entries, must be 1, 4 or"),
        (set_at("tasks", 0, "steps", 0, 0, value=2), "task 'a': its seal does not match what it reads"),
        (set_at("tasks", 1, "seal", value="00"), "task 'b': its seal does not match what it reads"),
    ],
)
def test_a_wrong_header_of_version_1_is_refused(change, message):
    header, parts = first_version_of(FIRST)
    change(header)
    assert refusal(sealed_up_first_version(header, parts)).startswith(message)


def test_a_wrong_file_of_version_1_is_refused():
    header, parts = first_version_of(FIRST)
    assert refusal(FIRST.replace(b"statistics", b"statistick")) == "the SHA-256 of header and sections does not match"
    assert refusal(sealed_up_first_version(header, parts | {"extra": b"1"})) == "unknown section 'extra'"
    assert refusal(sealed_up_first_version(header, parts | {"extra": b""})) == (
        "the container is not written as the format asks"
    )
    assert refusal(safetensors.numpy.save({"w": np.zeros(3)})) == "the container has no tsn header"
    for end in range(len(FIRST)):
        assert refusal(FIRST[:end]).startswith("no .tsn file, or a damaged one: ")


# sections -----------------------------------------------------------------------------------------------------------


def test_a_full_head_without_bias_costs_two_bytes_of_mask_and_no_requantization():
    banks = put(NET.banks, [0, "layers", HEAD_A], words([[0, 0], [0, 0]], [[0, 1], [1, 0]], [1, -1], []))
    tasks = put(NET.tasks, [0, "steps", HEAD_A, "mask"], np.ones((2, 2), bool))
    parts = sections(to_bytes(replace(NET, banks=banks, tasks=tasks)))
    assert parts["bank0/head_a/masks"].hex() == "0101"
    assert "task0/requantization" not in parts


# round trips --------------------------------------------------------------------------------------------------------


@given(recipes())
def test_every_network_comes_back(recipe):
    net = random_network(recipe)
    data = to_bytes(net)
    again = from_bytes(data)
    assert content(again) == content(net)
    assert to_bytes(again) == data


@given(recipes())
def test_the_files_after_each_task_are_those_of_its_first_tasks(recipe):
    net = random_network(recipe)
    counts = range(1, len(net.tasks) + 1)
    assert list(after_each_task(net)) == [to_bytes(net.first_tasks(count)) for count in counts]


def test_the_files_after_each_task_code_whole_groups_of_masks_once(monkeypatch):
    net, coded = random_network(Recipe("mlp", tasks=12)), []
    monkeypatch.setattr(writing, "encode_masks", lambda planes: coded.append(len(planes)) or encode_masks(planes))
    files = list(after_each_task(net))
    assert files == [to_bytes(net.first_tasks(count)) for count in range(1, 13)]
    coded.clear()
    assert list(after_each_task(net))[-1] == files[-1]
    body, heads = len(net.body), 12
    assert sorted(coded) == sorted([*range(1, 11), 1, 2] * body + [1] * heads)


def test_extreme_multipliers_and_offsets_come_back():
    head = put(one_layer_network().tasks[0], ["steps", 0, "requantization"], None)
    scales = Requantization(np.array([-(2**15) + 1, 2**15 - 1]), np.array([2**61, -(2**61)]), 62, None)
    net = replace(one_layer_network(), tasks=(put(head, ["steps", 0, "requantization"], scales),))
    assert content(from_bytes(to_bytes(net))) == content(net)


def test_a_bank_without_tasks_and_a_network_without_tasks_come_back():
    net = replace(NET, banks=(*NET.banks, Bank((None,) * len(NET.layers))))
    assert content(from_bytes(to_bytes(net))) == content(net)
    empty = PackedNetwork((4,), U8, (Linear("fc", 4, 2),), (Bank((words([[UNUSED] * 4] * 2, [[0] * 4] * 2),)),), ())
    assert content(from_bytes(to_bytes(empty))) == content(empty)


def test_class_names_may_be_any_text():
    net = put(NET, ["tasks", 0, "classes"], ("Käse 🧀", '"\\\n'))
    assert from_bytes(to_bytes(net)).tasks[0].classes == ("Käse 🧀", '"\\\n')


def test_another_process_writes_the_same_bytes():
    code = (
        "import hashlib\nfrom tests.helpers import networks\nfrom tsn_hw.core.artifact import to_bytes\n"
        "print(hashlib.sha256(to_bytes(networks.random_network(networks.Recipe('conv', 5, 2)))).hexdigest())"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    expected = hashlib.sha256(to_bytes(random_network(Recipe("conv", 5, 2)))).hexdigest()
    assert done.stdout.strip() == expected


# files --------------------------------------------------------------------------------------------------------------


def test_a_network_is_saved_and_loaded(tmp_path):
    save(NET, tmp_path / "net.tsn")
    assert [path.name for path in tmp_path.iterdir()] == ["net.tsn"]
    assert content(load(tmp_path / "net.tsn")) == content(NET)


def test_an_error_names_the_file(tmp_path):
    path = tmp_path / "net.tsn"
    path.write_bytes(SMALL[:-1])
    with pytest.raises(ArtifactError, match=rf"^{path}: the SHA-256 of header and sections does not match"):
        load(path)


def test_a_missing_file_is_one_clear_error(tmp_path):
    with pytest.raises(FileError, match=r"cannot read .*none\.tsn: No such file or directory"):
        load(tmp_path / "none.tsn")


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FileError, match="cannot write"):
        save(NET, tmp_path / "file" / "net.tsn")


# seals --------------------------------------------------------------------------------------------------------------


@given(recipes(), st.data())
def test_later_tasks_leave_earlier_seals_and_the_earlier_file_alone(recipe, data):
    net = random_network(recipe)
    count = data.draw(st.integers(1, len(net.tasks)))
    earlier = net.first_tasks(count)
    assert [seal(earlier, task) for task in range(count)] == [seal(net, task) for task in range(count)]
    assert forgotten_tasks(earlier, net) == ()
    assert to_bytes(from_bytes(to_bytes(net)).first_tasks(count)) == to_bytes(earlier)


def test_another_later_task_gives_the_same_earlier_file():
    other = random_network(Recipe("mlp", 4, seed=1))
    changed = replace(other, tasks=(*other.tasks[:-1], replace(other.tasks[-1], routing=b"x", name="other")))
    assert to_bytes(changed.first_tasks(3)) == to_bytes(other.first_tasks(3))
    assert to_bytes(changed) != to_bytes(other)


A_BIT_OF_A = [
    (["tasks", 0, "name"], "c"),
    (["tasks", 0, "classes"], ("dog", "cat")),
    (["input"], replace(U8, exponent=-1)),
    (["layers", CONV], replace(NET.layers[CONV], name="convolution")),
    (["tasks", 0, "steps", CONV, "requantization"], scale(2, shift=3)),
    (["tasks", 0, "steps", CONV, "requantization"], scale(2, output=replace(U8, bits=7))),
    (["tasks", 0, "steps", CONV, "requantization"], replace(scale(2), multiplier=np.array([1, 2]))),
    (["tasks", 0, "steps", CONV, "requantization"], replace(scale(2), offset=np.array([1, 0]))),
    (["banks", 0, "layers", CONV, "exponent"], -6),
    (["banks", 0, "layers", CONV, "centroid_bits"], 9),
    (["banks", 0, "layers", CONV, "codebooks", 0], np.array([-128, 126])),
    (["banks", 0, "layers", MIX, "code"], np.array([[1, 0], [2, 1]]).reshape(2, 2, 1, 1)),
]
NO_BIT_OF_A = [
    (["tasks", 1, "name"], "c"),
    (["tasks", 0, "routing"], b"other"),
    (["tasks", 1, "steps", CONV, "requantization"], scale(2, shift=3)),
    (["banks", 0, "layers", CONV, "codebooks", 1], np.array([6])),
    (["banks", 0, "layers", MIX, "code"], np.array([[0, 0], [1, 1]]).reshape(2, 2, 1, 1)),
]


@pytest.mark.parametrize(("path", "value"), A_BIT_OF_A)
def test_a_seal_breaks_with_any_bit_that_the_task_reads(path, value):
    changed = put(NET, path, value)
    assert seal(changed, 0) != seal(NET, 0)
    assert "a" in forgotten_tasks(NET, changed)


@pytest.mark.parametrize(("path", "value"), NO_BIT_OF_A)
def test_a_seal_does_not_depend_on_what_the_task_does_not_read(path, value):
    changed = put(NET, path, value)
    assert seal(changed, 0) == seal(NET, 0)
    assert "a" not in forgotten_tasks(NET, changed)


def test_a_task_that_is_gone_is_forgotten():
    assert forgotten_tasks(NET, NET.first_tasks(1)) == ("b",)


def test_layer_numbers_that_shift_leave_a_seal_alone():
    flatten = Flatten("unused", (-1,))
    moved = [replace(layer, inputs=tuple(s + (s >= 0) for s in layer.inputs)) for layer in NET.layers]
    banks = tuple(Bank((None, *bank.layers)) for bank in NET.banks)
    tasks = tuple(replace(task, steps=(None, *task.steps)) for task in NET.tasks)
    shifted = PackedNetwork(NET.input_shape, NET.input, (flatten, *moved), banks, tasks)
    assert [seal(shifted, task) for task in (0, 1)] == [seal(NET, task) for task in (0, 1)]
