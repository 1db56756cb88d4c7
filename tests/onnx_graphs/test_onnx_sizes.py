"""Sizes of ONNX files, by themselves and around one bank file."""

import pytest

from benchmarks.nets import random_mlp
from benchmarks.streams import stream_of
from export import write_onnx, write_onnx_shared

# sizes --------------------------------------------------------------------------------------------------------------


FLOAT_BYTES = 4 * (784 * 100 + 100 + 100 * 100 + 100 + 100 * 10 + 10)
"""Weights and biases of the MLP 784-100-100-10 in float32, without any graph around them."""
MASK_BYTES = (784 * 100 + 100 * 100) // 8


@pytest.fixture(scope="module")
def stream():
    """Eleven tasks of the MLP: 4-bit codes, keep ratio 0.5, other centroids for every task."""
    return stream_of(random_mlp((784, 100, 100, 10)), 11)


def folder_bytes(folder):
    return sum(path.stat().st_size for path in folder.iterdir())


def test_ten_tasks_around_one_bank_file_take_6_percent_of_ten_float32_files(tmp_path, stream):
    write_onnx_shared(stream.first_tasks(10), tmp_path)
    assert folder_bytes(tmp_path) <= 0.057 * 10 * FLOAT_BYTES


def test_an_eleventh_task_adds_4_kilobytes_to_its_mask_codebooks_and_head(tmp_path, stream):
    write_onnx_shared(stream.first_tasks(10), tmp_path)
    ten = folder_bytes(tmp_path)
    write_onnx_shared(stream, tmp_path)
    codebooks = 2 * (11 * 16 + 1)
    head = 10 * 100 * (4 + 1) // 8 + 17 + 10 * 4  # codes and mask, codebook, offsets
    assert folder_bytes(tmp_path) - ten <= MASK_BYTES + codebooks + head + 4096


def test_ten_tasks_by_themselves_take_11_percent_where_they_share_centroids(tmp_path):
    write_onnx(stream_of(random_mlp((784, 100, 100, 10)), 10, same_codebooks=True), tmp_path)
    assert folder_bytes(tmp_path) <= 0.107 * 10 * FLOAT_BYTES


def test_ten_tasks_by_themselves_take_up_to_13_5_percent_where_every_task_has_other_centroids(tmp_path, stream):
    """Who owns a survivor has to be told then: masks, owners and codes alone are 11.7 %."""
    write_onnx(stream.first_tasks(10), tmp_path)
    assert folder_bytes(tmp_path) <= 0.135 * 10 * FLOAT_BYTES
