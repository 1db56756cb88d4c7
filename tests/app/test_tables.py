"""Tables that line up, and pictures that are pictures."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.helpers.small_network import small_network
from tsn_hw.app.tables import accuracy_heat_map, capacity_table, table
from tsn_hw.core.capacity import capacity


def test_numbers_stand_to_the_right_and_words_to_the_left() -> None:
    rows = [["first", 1, 97.256], ["b", 100, None]]
    assert table(["name", "count", "percent"], rows).splitlines() == [
        "name   count  percent",
        "first      1    97.26",
        "b        100        -",
    ]


def test_no_line_ends_in_blanks() -> None:
    assert table(["a", "b"], [["1", ""], ["2", "long"]]).splitlines() == ["a  b", "1", "2  long"]


def test_a_table_without_rows_is_its_header() -> None:
    assert table(["a", "b"], []) == "a  b"


def test_rows_of_another_length_are_a_mistake() -> None:
    with pytest.raises((ValueError, IndexError)):
        table(["a", "b"], [["1"]])


def test_the_capacity_table_accounts_for_every_bit_of_the_file() -> None:
    sizes = capacity(small_network())
    lines = capacity_table(sizes).splitlines()
    bits = [int(line.split()[-2]) for line in lines[1:8]]
    assert sum(bits) == sizes.file_bits
    dense = 32 * sizes.body_weights
    for line, value in zip(lines[1:8], bits, strict=True):
        assert line.split()[-1] == f"{100 * value / dense:.2f}"
    assert f"body capacity {sizes.body_percent:.2f} % of {sizes.body_weights} float32 weights" in lines[8]
    assert lines[9].startswith(f"whole file {sizes.file_bits // 8} bytes: {sizes.total_percent:.2f} %")


@pytest.mark.parametrize("matrix", [[[50.0]], [[90.0, np.nan], [90.0, 80.0]], [[100.0, np.nan], [100.0, 100.0]]])
def test_the_heat_map_is_a_png_and_the_same_bytes_every_time(matrix: list[list[float]]) -> None:
    names = [f"task{i}" for i in range(len(matrix))]
    picture = accuracy_heat_map(np.array(matrix), names, "title")
    with Image.open(io.BytesIO(picture)) as image:
        assert image.format == "PNG"
        assert min(image.size) > 200
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 10
    assert accuracy_heat_map(np.array(matrix), names, "title") == picture


def test_the_heat_map_shows_what_is_in_the_matrix() -> None:
    same = accuracy_heat_map(np.array([[90.0, np.nan], [90.0, 80.0]]), ["a", "b"], "title")
    forgot = accuracy_heat_map(np.array([[90.0, np.nan], [50.0, 80.0]]), ["a", "b"], "title")
    assert same != forgot
