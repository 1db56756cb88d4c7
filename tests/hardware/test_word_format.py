"""docs/word-format.md: its examples are run, and its worked example is found in a network and its memories."""

import doctest
from pathlib import Path

import numpy as np

from tests.helpers.images import settings, word
from tests.helpers.words import write_word
from tsn_hw.core.arithmetic import ActFormat, nearest
from tsn_hw.core.layers import Linear
from tsn_hw.core.network import UNUSED, Bank, BankLayer, PackedNetwork, Requantization, Step, Task
from tsn_hw.hardware.pipeline import accelerator

DOCUMENT = Path(__file__).parents[2] / "docs" / "word-format.md"
FIRST, SECOND = [0.4576, 0.3456, 0.0, -0.3576], [0.2453, -0.1898]
EXPONENT = -15


def paper_network():
    """The 2-3-2 network: layer 1 has codebooks of two tasks, the third task shares with the first."""
    masks = np.array([[[1, 1], [1, 0], [0, 0]], [[0, 1], [0, 1], [0, 1]], [[1, 0], [0, 0], [0, 0]]], bool)
    owner = np.array([[0, 0], [0, 1], [UNUSED, 1]], np.int16)
    code = np.array([[3, 1], [0, 1], [0, 0]], np.uint8)  # the weight (0, 0) is 0 00 11, the weight (1, 1) 0 01 1
    books = tuple(nearest(np.array(book) * 2.0**-EXPONENT) for book in (FIRST, SECOND, []))
    layers = (Linear("layer1", 2, 3), *(Linear(f"layer2_task{task}", 3, 2, (0,)) for task in range(3)))
    heads = [
        BankLayer(
            np.full((2, 3), task, np.int16),
            np.zeros((2, 3), np.uint8),
            tuple(np.array([1] if task == own else [], np.int64) for own in range(3)),
            8,
            0,
        )
        for task in range(3)
    ]
    scale = Requantization(np.ones(3), np.zeros(3), 15, ActFormat(8, False, 0))
    logits = Requantization(np.ones(2), np.zeros(2), 0, None)
    tasks = []
    for task in range(3):
        steps = [Step(masks[task], scale), None, None, None]
        steps[1 + task] = Step(np.ones((2, 3), bool), logits)
        tasks.append(Task(f"task{task + 1}", 0, ("a", "b"), tuple(steps)))
    bank = Bank((BankLayer(owner, code, books, 16, EXPONENT), *heads))
    return PackedNetwork((2,), ActFormat(8, False, 0), layers, (bank,), tuple(tasks))


def test_the_examples_of_the_document_hold():
    failed, run = doctest.testfile(str(DOCUMENT), module_relative=False)
    assert failed == 0
    assert run > 10


def test_the_word_of_the_paper_is_that_of_a_network():
    net = paper_network()
    assert write_word(net, 0, 0, (0, 0)) == "00011"
    assert write_word(net, 0, 0, (1, 1)) == "0011"
    weights = [net.weights(task, 0) for task in range(3)]
    assert [w[0, 0] for w in weights] == [-11718, 0, -11718]  # the third task shares it, the second does not use it
    assert [w[1, 1] for w in weights] == [0, -6219, 0]
    assert nearest(-0.3576 * 2**15) == -11718


def test_the_word_of_the_paper_addresses_its_centroid_in_the_memories():
    net = paper_network()
    images = {image.name: image for image in accelerator(net, settings(net, pe=3, simd=2)).images}
    words, masks, codebook = (images[f"layer1.{kind}"] for kind in ("words", "mask", "codebook"))
    # one line of 3 rows x 2 columns: lane = 2 * row + column, 4 bits a lane
    lanes = [word(words, 0) >> 4 * lane & 0b1111 for lane in range(6)]
    assert lanes == [0b00_11, 0b00_01, 0b00_00, 0b01_01, 0, 0b01_00]
    assert [f"{word(masks, task):06b}" for task in range(3)] == ["000111", "101010", "000001"]
    assert word(codebook, 0b00_11) == -11718 % 2**16
    assert word(codebook, 0b01_01) == -6219 % 2**16
