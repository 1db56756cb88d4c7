"""The pictures of a report show what they should, in colours that everybody tells apart, in any browser."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.browser import console, measure, needs_browser
from tests.helpers.networks import Recipe, random_network
from tsn_hw.app.output.blocks import BLUE, WHITE, Cell, luminance
from tsn_hw.app.output.plots import PALETTE
from tsn_hw.app.report.memory_map import FREE, layer_maps, owner_colors, owner_picture, readers_picture
from tsn_hw.core import artifact
from tsn_hw.core.network import UNUSED

# ----------------------------------------------------------------------------------------------------------- pictures


def test_every_pixel_of_a_map_has_the_colour_of_the_owner(deep: Path) -> None:
    net = artifact.load(deep / "net.tsn")
    for layer in layer_maps(net):
        owners = len(net.bank_tasks(layer.bank))
        colors = [FREE, *owner_colors(owners)]
        pixels = pixels_of(owner_picture(layer, owners))
        scale = pixels.shape[0] // layer.owner.shape[0]
        assert pixels.shape == (layer.owner.shape[0] * scale, layer.owner.shape[1] * scale, 3)
        for (row, column), owner in np.ndenumerate(layer.owner):
            corner = pixels[row * scale, column * scale]
            assert "#" + corner.tobytes().hex() == colors[owner + 1].lower()
            assert (pixels[row * scale + scale - 1, column * scale + scale - 1] == corner).all()
    assert {int(owner) for layer in layer_maps(net) for owner in np.unique(layer.owner)} == {UNUSED, 0, 1}


def test_a_map_of_readers_goes_from_white_to_blue(deep: Path) -> None:
    net = artifact.load(deep / "net.tsn")
    layer = next(layer for layer in layer_maps(net) if layer.bank == 0)
    pixels = pixels_of(readers_picture(layer, 2))
    scale = pixels.shape[0] // layer.readers.shape[0]
    for readers, color in ((0, WHITE), (2, BLUE)):
        row, column = np.argwhere(layer.readers == readers)[0]
        assert tuple(pixels[row * scale, column * scale]) == color


def test_a_large_layer_is_shown_in_blocks_of_its_most_frequent_owner() -> None:
    net = random_network(Recipe(tasks=2, density=0.9, seed=3))
    layer = layer_maps(net)[0]
    owner = np.zeros((300, 1100), np.int64)
    owner[:2, :3] = [[1, 1, 0], [1, 0, 1]]
    large = type(layer)(0, "large", owner, owner)
    assert large.block == (2, 3)
    pixels = pixels_of(owner_picture(large, 2))
    assert pixels.shape == (150, 367, 3)
    assert ["#" + pixels[0, x].tobytes().hex() for x in (0, 1)] == [PALETTE[1].lower(), PALETTE[0].lower()]


def pixels_of(address: str) -> np.ndarray:
    data = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


# ------------------------------------------------------------------------------------------------------------- colours


def contrast(first: tuple[int, ...], second: tuple[int, ...]) -> float:
    """Contrast ratio of WCAG 2."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_text_of_shaded_cells_can_be_read() -> None:
    for share in np.linspace(0, 1, 101).tolist():
        background, text = re.fullmatch(r"background:rgb\((.*)\);color:(.*)", Cell(1, share).style).groups()  # type: ignore[union-attr]
        color = tuple(map(int, background.split(",")))
        assert contrast(color, (255,) * 3 if text == "#fff" else (0,) * 3) >= 4.5


def test_colours_of_the_style_sheet_can_be_read() -> None:
    style = (Path(__file__).parents[2] / "tsn_hw" / "app" / "output" / "page.css").read_text()
    colors = dict(re.findall(r"--(\w+): #([0-9a-f]{3,6});", style))
    long = {name: value * 2 if len(value) == 3 else value for name, value in colors.items()}
    rgb = {name: tuple(int(value[i : i + 2], 16) for i in (0, 2, 4)) for name, value in long.items()}
    for text in ("ink", "soft", "accent"):
        for paper in ("paper", "wash"):
            assert contrast(rgb[text], rgb[paper]) >= 4.5, (text, paper)


COLOR_BLIND = {  # Machado, Oliveira and Fernandes (2009), severity 1, on linear colours
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("kind", COLOR_BLIND)
def test_owners_are_told_apart_by_every_kind_of_colour_vision(kind: str) -> None:
    rgb = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in (*PALETTE, FREE)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(COLOR_BLIND[kind]).T, 0, 1)
    for count in range(2, len(seen) + 1):
        lab = lab_of(seen[:count])
        distances = np.linalg.norm(lab[:, None] - lab[None], axis=2)[~np.eye(count, dtype=bool)]
        assert distances.min() > 10, (kind, count)


def lab_of(linear: np.ndarray) -> np.ndarray:
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    root = np.cbrt(xyz / np.array([0.9505, 1.0, 1.089]))
    x, y, z = root.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def test_many_owners_have_colours_in_order_of_their_brightness() -> None:
    colors = owner_colors(40)
    bright = [luminance([int(color[i : i + 2], 16) for i in (1, 3, 5)]) for color in colors]
    assert bright == sorted(bright)
    assert len(set(colors)) == 40


# -------------------------------------------------------------------------------------------------------- in a browser


@needs_browser
def test_a_browser_opens_the_page_from_disk_and_has_nothing_to_say(swept: Path) -> None:
    assert console(swept / "page.html") == []


@needs_browser
def test_the_browser_does_report_what_it_does_not_like(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<script>console.error('planted')</script><img src='missing.png'>")
    assert any("planted" in line for line in console(page))


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_fits_its_window_and_every_picture_has_a_text_alternative(width: int, swept: Path, deep: Path) -> None:
    for page in (swept / "page.html", deep / "report.html"):
        found = measure(page, width)
        assert found["width"] == width
        assert found["scrollWidth"] == width
        assert found["outside"] == []
        assert found["images"] >= 2
        assert found["drawings"] >= 1
        assert found["withoutText"] == 0
        assert found["lost"] == []
        assert found["unreachable"] == 0
        assert found["firstFocus"] == "skip"
        assert found["headings"].count("H1") == 1
        assert found["smallestText"] >= 9
        assert (found["scrolling"] > 0) == (width == 390)


@needs_browser
def test_the_browser_does_notice_a_page_that_is_too_wide(tmp_path: Path) -> None:
    page = tmp_path / "wide.html"
    page.write_text(
        "<!DOCTYPE html><meta name=viewport content='width=device-width'><h1>x</h1><a href='#nowhere'>y</a>"
        "<main>text<img src='data:,'></main><div style='width:600px'>wide</div>"
    )
    found = measure(page, 390)
    assert found["scrollWidth"] > 390
    assert found["outside"] == ["DIV."]
    assert found["withoutText"] == 1
    assert found["lost"] == ["nowhere"]
