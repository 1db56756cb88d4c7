"""Blocks as text and on a page: tables that line up, and pictures that are pictures."""

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tests.helpers.small_network import small_network
from tsn_hw.app.learning.contents import capacity_blocks
from tsn_hw.app.output import CommandResult, Table, table_text
from tsn_hw.app.output.plots import accuracy_heat_map, inline_svg, stacked_bars
from tsn_hw.core.capacity import capacity


def lines(header: list[str], rows: list[list[object]]) -> list[str]:
    return table_text(Table.of_rows(header, rows)).splitlines()


def test_numbers_stand_to_the_right_and_words_to_the_left() -> None:
    rows: list[list[object]] = [["first", 1, 97.256], ["b", 100, None]]
    assert lines(["name", "count", "percent"], rows) == [
        "name   count  percent",
        "first      1    97.26",
        "b        100        -",
    ]


def test_no_line_ends_in_blanks() -> None:
    assert lines(["a", "b"], [["1", ""], ["2", "long"]]) == ["a  b", "1", "2  long"]


def test_a_table_without_rows_is_its_header() -> None:
    assert lines(["a", "b"], []) == ["a  b"]


def test_rows_of_another_length_are_a_mistake() -> None:
    with pytest.raises(KeyError):
        lines(["a", "b"], [["1"]])


def test_a_table_shows_the_columns_of_its_records_that_it_names() -> None:
    table = Table([{"name": "fc1", "hidden": 1, "bits": 2}], {"name": "layer", "bits": "code bits"}, "Layers")
    assert CommandResult([table], None).text() == "Layers\nlayer  code bits\nfc1            2"


def test_the_capacity_table_accounts_for_every_bit_of_the_file() -> None:
    sizes = capacity(small_network())
    lines = CommandResult(capacity_blocks(sizes), None).text().splitlines()
    assert lines[:1] + lines[9:10] == ["Bits of the file", ""]
    bits = [int(line.split()[-2]) for line in lines[2:9]]
    assert sum(bits) == sizes.file_bits
    dense = 32 * sizes.body_weights
    for line, value in zip(lines[2:9], bits, strict=True):
        assert line.split()[-1] == f"{100 * value / dense:.2f}"
    assert f"body capacity {sizes.body_percent:.2f} % of {sizes.body_weights} float32 weights" in lines[10]
    assert lines[11].startswith(f"whole file {sizes.file_bits // 8} bytes: {sizes.total_percent:.2f} %")


def test_bars_are_as_long_as_their_values() -> None:
    drawing = stacked_bars({"one": (10, 30), "two": (20, 60)}, ("a", "b"), "bytes")
    boxes = {bars.get_label(): [box.get_bbox().bounds for box in bars] for bars in drawing.axes[0].containers}
    assert {part: [(x, width) for x, _, width, _ in found] for part, found in boxes.items()} == {
        "a": [(0, 10), (0, 20)],
        "b": [(10, 30), (20, 60)],
    }
    assert [text.get_text() for text in drawing.axes[0].texts] == ["one: 40 bytes", "two: 80 bytes"]


def test_a_drawing_on_a_page_is_an_element_with_a_text_alternative_and_no_names_that_could_stand_twice() -> None:
    svg = ElementTree.fromstring(inline_svg(stacked_bars({"a": (1, 2)}, ("x", "y"), "bits"), 'one "a" <b>'))
    assert (svg.get("role"), svg.get("aria-label")) == ("img", 'one "a" <b>')
    assert (svg.get("width"), svg.get("height")) == (None, None)
    texts = [text.text for text in svg.iter() if text.tag.endswith("text")]
    assert texts == ["a: 3 bits", "x", "y"]
    assert [element.get("id") for element in svg.iter() if element.tag.endswith("g") and element.get("id")] == []


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
