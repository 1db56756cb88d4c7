"""`tsn-hw onnx` and `tsn-hw run`: from a network to the classes of images, by files alone."""

import json
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from export import write_onnx_shared
from export.onnx_graphs.check import open_graph, read_graph
from tests.helpers.handmade import linear, network, requantization
from tests.helpers.small_network import NET
from tsn_hw.app.cli.main import main
from tsn_hw.app.deploy.graphs import read_input
from tsn_hw.core import artifact
from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.errors import DataError
from tsn_hw.core.layers import Flatten, Linear
from tsn_hw.learn.data.files import decoded, npy_numbers
from tsn_hw.learn.data.images import load_data

PIXELS = ActFormat(8, signed=False, exponent=-8)


def written(net, folder):
    """A network and its graphs in a folder; gives the graph of the first task."""
    artifact.save(net, folder / "net.tsn")
    assert main(["onnx", str(folder / "net.tsn"), "-o", str(folder), "--json"]) == 0
    return folder / "task_00.onnx"


def picked(shape, *pixels, form=PIXELS):
    """A network whose logit k is the value of one input: (channel, row, column)."""
    flat = [np.ravel_multi_index(place, shape) for place in pixels]
    weights = np.zeros((len(flat), np.prod(shape)), int)
    weights[range(len(flat)), flat] = 1
    layers = [(Linear("head", weights.shape[1], len(flat), (0,)), weights, requantization(None, channels=len(flat)))]
    return network(shape, form, [(Flatten("flatten"), None, None), *layers], head=False)


def saved(path, pixels):
    Image.fromarray(np.array(pixels, np.uint8)).save(path)
    return str(path)


def told(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def refused(capsys, *arguments):
    """The one line that a command prints about bad input."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("tsn-hw: ").rstrip()


# images -------------------------------------------------------------------------------------------------------------


def test_a_grey_image_keeps_its_pixels(tmp_path, capsys):
    graph = written(picked((1, 2, 3), (0, 0, 1), (0, 1, 2)), tmp_path)
    image = saved(tmp_path / "image.png", [[1, 7, 3], [4, 5, 200]])
    capsys.readouterr()
    data = json.loads(told(capsys, "run", graph, image, "--json"))
    assert data["predictions"] == [{"input": image, "class": "class1", "logits": [7, 200]}]
    assert (data["task"], data["classes"], data["logit_exponent"]) == ("task0", ["class0", "class1"], -8)


def test_colours_are_the_channels_of_the_input(tmp_path, capsys):
    graph = written(picked((3, 1, 2), (0, 0, 0), (1, 0, 1), (2, 0, 1)), tmp_path)
    capsys.readouterr()
    image = saved(tmp_path / "image.png", [[[10, 20, 30], [40, 50, 60]]])
    with_alpha = saved(tmp_path / "alpha.png", [[[10, 20, 30, 255], [40, 50, 60, 255]]])
    grey = saved(tmp_path / "grey.png", [[9, 8]])
    data = json.loads(told(capsys, "run", graph, image, with_alpha, grey, "--json"))
    assert [entry["logits"] for entry in data["predictions"]] == [[10, 50, 60], [10, 50, 60], [9, 8, 8]]


def test_a_colour_image_becomes_grey_where_the_graph_takes_grey(tmp_path, capsys):
    graph = written(picked((1, 1, 2), (0, 0, 0), (0, 0, 1)), tmp_path)
    capsys.readouterr()
    image = saved(tmp_path / "image.png", [[[77, 77, 77], [255, 0, 0]]])
    data = json.loads(told(capsys, "run", graph, image, "--json"))
    assert data["predictions"][0]["logits"] == [77, 76]  # ITU-R 601: 0.299 of the red


def test_a_flat_input_takes_an_image_of_as_many_pixels(tmp_path, capsys):
    identity = np.eye(6, dtype=int)
    graph = written(linear(identity, requantization(None, channels=6), PIXELS, head=False), tmp_path)
    capsys.readouterr()
    grey = saved(tmp_path / "grey.png", [[1, 2, 3], [4, 5, 6]])
    colour = saved(tmp_path / "colour.png", [[[1, 2, 3], [4, 5, 6]]])
    data = json.loads(told(capsys, "run", graph, grey, colour, "--json"))
    assert [entry["logits"] for entry in data["predictions"]] == [[1, 2, 3, 4, 5, 6], [1, 4, 2, 5, 3, 6]]


def test_pixels_are_quantized_to_the_input_format(tmp_path, capsys):
    graph = written(picked((1, 1, 4), *[(0, 0, i) for i in range(4)], form=ActFormat(4, False, -4)), tmp_path)
    capsys.readouterr()
    image = saved(tmp_path / "image.png", [[8, 24, 40, 255]])  # halves go to the even neighbour
    assert json.loads(told(capsys, "run", graph, image, "--json"))["predictions"][0]["logits"] == [0, 2, 2, 15]


@pytest.mark.parametrize("colour", [False, True])
def test_a_picture_of_the_training_folder_becomes_the_integers_that_training_saw(tmp_path, colour):
    """Of other sizes than the input's, turned by EXIF, with alpha or a palette."""
    rng = np.random.default_rng(0)
    modes = ["RGB", "RGBA", "P", "L"] if colour else ["L", "L", "1"]
    for part, name, mode in ((p, c, m) for p in ("train", "test") for c in "ab" for m in range(len(modes))):
        exif = Image.Exif()
        exif[0x0112] = 1 + int(rng.integers(8))
        picture = Image.fromarray(rng.integers(0, 256, (*rng.integers(5, 40, 2), 3), dtype=np.uint8)).convert(
            modes[mode]
        )
        (tmp_path / part / name).mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / part / name / f"{mode}.png", exif=exif)
    data = load_data("folder", tmp_path, name="photos", side=16)
    graph = open_graph(written(picked(data.shape, (0, 0, 0)), tmp_path))
    files = [path for name in "ab" for path in sorted((tmp_path / "test" / name).iterdir())]
    np.testing.assert_array_equal(np.concatenate([read_input(graph, file) for file in files]), data.x_test)


def test_pictures_are_turned_as_their_exif_says(tmp_path):
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for orientation in range(1, 10):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
        with Image.open(tmp_path / "x.png") as stored:
            np.testing.assert_array_equal(decoded(tmp_path / "x.png"), ImageOps.exif_transpose(stored))


def test_a_small_file_of_many_pixels_is_refused_before_they_are_decoded(tmp_path, capsys, monkeypatch):
    graph = written(picked((1, 2, 3), (0, 0, 0)), tmp_path)
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail(f"{image.size} pixels are decoded"))
    for size in (9_000, 12_000, 20_000):  # beyond Pillow's own limits, too
        image = tmp_path / f"{size}.png"
        ihdr = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
        chunks = ((b"IHDR", ihdr), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
        packed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
        image.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
        told = (
            f"{size}x{size} pixels are more than 67108864" if size < 20_000 else "Image size (400000000 pixels) exceeds"
        )
        assert refused(capsys, "run", graph, image).startswith(f"cannot read {image} as an image: {told}")


def test_an_image_of_16_bits_and_a_file_that_is_none_are_refused(tmp_path, capsys):
    graph = written(picked((1, 1, 2), (0, 0, 0)), tmp_path)
    deep, text = tmp_path / "deep.png", tmp_path / "text.png"
    Image.fromarray(np.array([[1, 60000]], np.uint16)).save(deep)
    text.write_text("no image")
    assert refused(capsys, "run", graph, deep) == (
        f"cannot read {deep} as an image: pixels of mode I;16, must be one of 1, L, LA, P, RGB, RGBA, CMYK, YCbCr"
    )
    assert refused(capsys, "run", graph, text).startswith(f"cannot read {text} as an image: ")
    assert refused(capsys, "run", graph, tmp_path / "none.png").startswith(f"cannot read {tmp_path}/none.png as an ")


def test_folders_are_run_with_all_pictures_in_them(tmp_path, capsys):
    graph = written(picked((1, 1, 2), (0, 0, 0), (0, 0, 1)), tmp_path)
    pictures = tmp_path / "pictures"
    (pictures / "deeper" / ".hidden").mkdir(parents=True)
    for name, pixels in (("b.png", [[9, 3]]), ("deeper/a.JPG", [[0, 255]]), ("deeper/.hidden/c.png", [[1, 2]])):
        saved(pictures / name, pixels)
    (pictures / "notes.txt").write_text("no picture")
    capsys.readouterr()
    assert told(capsys, "run", graph, pictures) == f"{pictures}/b.png: class0\n{pictures}/deeper/a.JPG: class1\n"
    (tmp_path / "empty").mkdir()
    assert refused(capsys, "run", graph, tmp_path / "empty") == (
        f"{tmp_path}/empty: holds no image (.png .jpg .jpeg .jfif .bmp .webp) and no .npy file"
    )


def test_the_best_classes_are_told_in_their_order(tmp_path, capsys):
    graph = written(picked((1, 1, 3), (0, 0, 0), (0, 0, 1), (0, 0, 2)), tmp_path)
    image = saved(tmp_path / "x.png", [[5, 9, 9]])
    capsys.readouterr()
    assert told(capsys, "run", graph, image, "--top", 2) == f"{image}: class1, class2\n"
    data = json.loads(told(capsys, "run", graph, image, "--top", 99, "--json"))
    assert data["predictions"][0]["top"] == ["class1", "class2", "class0"]


def test_a_graph_of_two_channels_takes_no_image(tmp_path, capsys):
    graph = written(picked((2, 1, 1), (0, 0, 0)), tmp_path)
    image = saved(tmp_path / "image.png", [[1]])
    assert refused(capsys, "run", graph, image) == f"{image}: has 1 x 1 pixels, the graph takes (2, 1, 1) values"


# arrays -------------------------------------------------------------------------------------------------------------


def test_an_array_holds_one_input_or_a_batch(tmp_path, capsys):
    graph = written(picked((1, 1, 2), (0, 0, 0), (0, 0, 1)), tmp_path)
    capsys.readouterr()
    one, batch = tmp_path / "one.npy", tmp_path / "batch.npy"
    np.save(one, np.array([[[3, 2]]], np.uint8))
    np.save(batch, np.array([[[[0, 1]]], [[[255, 0]]]], np.int64))
    assert told(capsys, "run", graph, one, batch) == f"{one}: class0\n{batch}[0]: class1\n{batch}[1]: class0\n"


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((2, 3), np.uint8), "has shape (2, 3), the graph takes (1, 1, 2) or a batch of them"),
        (np.zeros((0, 1, 1, 2), np.uint8), "has shape (0, 1, 1, 2), the graph takes (1, 1, 2) or a batch of them"),
        (np.array([[[-1, 256]]]), "holds -1..256, the graph takes integers 0..255"),
        (np.array([[[0.0, 255.0]]]), "holds 0..255, the network reads 0..1; give pixels of 0..255 as uint8"),
        (np.array([[[0.0, np.nan]]]), "holds values that are missing or not finite; fill them as in training"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(tmp_path, capsys, array, reason):
    graph = written(picked((1, 1, 2), (0, 0, 0)), tmp_path)
    np.save(tmp_path / "x.npy", array)
    assert refused(capsys, "run", graph, tmp_path / "x.npy") == f"{tmp_path}/x.npy: {reason}"


@pytest.mark.parametrize("shape", [(2, 3, 3), (1, 2, 3, 3), (3, 2, 3), (4, 3, 2, 3)])
def test_channels_of_arrays_stand_first_or_last(tmp_path, shape):
    graph = open_graph(written(picked((3, 2, 3), (0, 0, 0)), tmp_path))
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    np.save(tmp_path / "x.npy", array)
    batch = array if array.ndim == 4 else array[None]
    expected = batch if batch.shape[1:] == (3, 2, 3) else batch.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(read_input(graph, tmp_path / "x.npy"), expected)


@pytest.mark.parametrize("shape", [(2, 3), (4, 2, 3), (4, 2, 3, 1)])
def test_one_channel_of_arrays_may_be_left_out(tmp_path, shape):
    graph = open_graph(written(picked((1, 2, 3), (0, 0, 0)), tmp_path))
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    np.save(tmp_path / "x.npy", array)
    np.testing.assert_array_equal(read_input(graph, tmp_path / "x.npy"), array.reshape(-1, 1, 2, 3))


def test_every_damaged_array_is_refused_in_one_line(tmp_path):
    """numpy's own reader ends some of them with errors of Python's parser."""
    np.save(tmp_path / "x.npy", np.arange(6, dtype=np.int16).reshape(2, 3))
    content, file, rng = (tmp_path / "x.npy").read_bytes(), tmp_path / "damaged.npy", np.random.default_rng(0)
    for _ in range(1000):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        file.write_bytes(damaged[: rng.integers(len(content) + 1)] if rng.random() < 0.3 else damaged)
        with suppress(DataError):  # and nothing else
            assert npy_numbers(file).nbytes <= len(content)
    np.save(file, np.zeros((1, 1, 2), bool))
    assert damage(file) == f"cannot read {file} as an .npy file: it is of type bool, must be numbers"
    file.write_bytes(content.replace(b"(2, 3), }", b"(2, 3, } "))
    assert "as an .npy file: it has a header that describes no plain array" in damage(file)


def damage(file):
    with pytest.raises(DataError) as error:
        npy_numbers(file)
    return str(error.value)


# onnxruntime alone --------------------------------------------------------------------------------------------------


def test_the_ten_lines_of_the_documentation_run(tmp_path, monkeypatch, capsys):
    graph = written(picked((1, 2, 3), (0, 0, 1), (0, 1, 2)), tmp_path)
    graph.rename(tmp_path / "task_03.onnx")
    saved(tmp_path / "image.png", [[1, 7, 3], [4, 5, 128]])
    pixels = [[[7, 7, 7]] * 4] * 4  # of another size and colour
    saved(tmp_path / "large.png", pixels)
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text()
    lines = text.partition("```python\n")[2].partition("```")[0]
    capsys.readouterr()
    exec(compile(lines, "docs/deploy.md", "exec"), {})
    exec(compile(lines.replace("image.png", "large.png"), "docs/deploy.md", "exec"), {})
    assert capsys.readouterr().out == "class1 [0.02734375 0.5       ]\nclass0 [0.02734375 0.02734375]\n"


# the commands -------------------------------------------------------------------------------------------------------


def test_a_shared_graph_runs_with_its_bank_file_and_only_with_it(tmp_path, capsys):
    write_onnx_shared(NET, tmp_path)
    np.save(tmp_path / "x.npy", np.full((1, 3, 2), 9, np.uint8))
    assert told(capsys, "run", tmp_path / "task_01.onnx", tmp_path / "x.npy") == f"{tmp_path}/x.npy: 0\n"
    (tmp_path / "banks.bin").write_bytes(bytes(258))
    assert "finds other words than were exported" in refused(
        capsys, "run", tmp_path / "task_01.onnx", tmp_path / "x.npy"
    )


def test_the_command_writes_every_layout(tmp_path, capsys):
    artifact.save(NET, tmp_path / "net.tsn")
    out = tmp_path / "onnx"
    files = json.loads(told(capsys, "onnx", tmp_path / "net.tsn", "-o", out, "--shared", "--folded", "--json"))
    names = ["banks.bin", "task_00.folded.onnx", "task_00.onnx", "task_01.folded.onnx", "task_01.onnx"]
    assert files == {str(out / name): (out / name).stat().st_size for name in names}
    artifact.save(NET.first_tasks(1), tmp_path / "net.tsn")
    told(capsys, "onnx", tmp_path / "net.tsn", "-o", out, "--shared")
    assert sorted(path.name for path in out.iterdir()) == ["banks.bin", "task_00.onnx"]


def test_the_command_forces_forms(tmp_path, capsys):
    artifact.save(NET, tmp_path / "net.tsn")

    def forms(*options):
        told(capsys, "onnx", tmp_path / "net.tsn", "-o", tmp_path, *options)
        layers = read_graph(tmp_path / "task_01.onnx").told.layers
        return dict(zip(layers.name, layers.form, strict=True))

    free = forms()
    assert (free["conv"], free["mix"], free["head_b"]) == ("quantized", "quantized", "quantized")
    assert forms("--form", "conv=integer", "--form", "mix=float32") == free | {"conv": "integer", "mix": "float32"}
    assert set(forms("--form", "float32", "--shared").values()) == {"float32"}


FORMS = "must be one of quantized, float32, integer"


@pytest.mark.parametrize(
    ("forms", "reason"),
    [
        (["fast"], f"--form fast: 'fast' {FORMS}"),
        (["mix="], f"--form mix=: '' {FORMS}"),
        (["integer", "mix=integer"], "--form integer: stands for all layers, others cannot be given beside it"),
        (["no=integer"], "form of layer 'no': the network has no such layer"),
        (["pool=integer"], "form of layer 'pool': it computes nothing"),
    ],
)
def test_forms_that_cannot_be_are_refused(tmp_path, capsys, forms, reason):
    artifact.save(NET, tmp_path / "net.tsn")
    options = [option for form in forms for option in ("--form", form)]
    assert refused(capsys, "onnx", tmp_path / "net.tsn", "-o", tmp_path, *options) == reason
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["net.tsn", "--check", "folder"], "onnx: takes a network and --out, or --check alone"),
        (["-o", "folder"], "onnx: takes a network and --out, or --check alone"),
    ],
)
def test_options_that_contradict_one_another_are_refused(capsys, arguments, reason):
    assert refused(capsys, "onnx", *arguments) == reason
