"""CIFAR, folders of images and tiles: read as they are published, or refused in one line."""

import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.helpers.data_files import COLOUR, RNG, X_TEST, X_TRAIN, refusal, save, write_folder
from tsn_hw.learn.data.images import load_data

# --- CIFAR -------------------------------------------------------------------------------------------------------


def records(labels, label_bytes):
    pixels = RNG.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    rows = [
        bytes([7] * (label_bytes - 1) + [label]) + image.tobytes() for label, image in zip(labels, pixels, strict=True)
    ]
    return b"".join(rows), pixels.reshape(-1, 3, 32, 32)


def write_cifar10(folder):
    batches = [records([batch, 9 - batch], 1) for batch in range(1, 6)]
    for batch, (data, _) in enumerate(batches, 1):
        (folder / f"data_batch_{batch}.bin").write_bytes(data)
    test, x_test = records([3], 1)
    (folder / "test_batch.bin").write_bytes(test)
    return np.concatenate([pixels for _, pixels in batches]), x_test


def test_cifar10_binary_version(tmp_path):
    x_train, x_test = write_cifar10(tmp_path)
    (tmp_path / "batches.meta.txt").write_text(
        "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n"
    )
    data = load_data("cifar", tmp_path)
    assert (data.x_train == x_train).all()
    assert (data.x_test == x_test).all()
    assert data.y_train.tolist() == [1, 8, 2, 7, 3, 6, 4, 5, 5, 4]
    assert data.y_test.tolist() == [3]
    assert data.classes[:2] == ("airplane", "automobile")


def test_cifar100_binary_version_takes_the_fine_labels(tmp_path):
    train, x_train = records([99, 0], 2)
    (tmp_path / "train.bin").write_bytes(train)
    (tmp_path / "test.bin").write_bytes(records([50], 2)[0])
    data = load_data("cifar", tmp_path)
    assert (data.x_train == x_train).all()
    assert data.y_train.tolist() == [99, 0]
    assert data.y_test.tolist() == [50]
    assert data.classes == tuple(str(label) for label in range(100))


def test_a_missing_cifar_batch_says_what_to_put_where(tmp_path):
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_4.bin").unlink()
    assert refusal("cifar", tmp_path) == (
        f"data 'mine': {tmp_path}/data_batch_4.bin is missing; put the files of the binary version of CIFAR-10 "
        "or CIFAR-100 there"
    )


@pytest.mark.parametrize("python_file", ["data_batch_1", "train"])
def test_the_python_version_of_cifar_is_refused(tmp_path, python_file):
    (tmp_path / python_file).write_bytes(b"\x80\x02}q")
    assert refusal("cifar", tmp_path) == (
        f"data 'mine': {tmp_path}/data_batch_1.bin is missing ('{python_file}' is of the Python version, which is "
        "never unpickled); put the files of the binary version of CIFAR-10 or CIFAR-100 there"
    )


@pytest.mark.parametrize("size", [0, 3072, 3074, 2 * 3073 - 1])
def test_cifar_files_of_broken_records_are_refused(tmp_path, size):
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_2.bin").write_bytes(bytes(size))
    assert refusal("cifar", tmp_path) == (
        f"data 'mine': {tmp_path}/data_batch_2.bin: {size} bytes are no whole number of records of 3073 bytes"
    )


def test_cifar_labels_and_names_out_of_range_are_refused(tmp_path):
    write_cifar10(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(records([10], 1)[0])
    assert refusal("cifar", tmp_path) == "data 'mine', test part: labels 10..10, must be 0..9"
    (tmp_path / "batches.meta.txt").write_text("one\ntwo")
    assert refusal("cifar", tmp_path) == f"data 'mine': {tmp_path}/batches.meta.txt: names 2 classes, must be 10"
    (tmp_path / "batches.meta.txt").write_bytes(b"\xff")
    assert refusal("cifar", tmp_path).startswith(f"data 'mine': {tmp_path}/batches.meta.txt: cannot be read: ")


def test_folders_are_classes_in_alphabetical_order(tmp_path):
    write_folder(tmp_path, X_TRAIN[:2], X_TEST[:2])
    save(tmp_path / "train" / "a" / "1.PNG", X_TRAIN[2])
    data = load_data("folder", tmp_path)
    assert data.classes == ("a", "b")
    assert data.y_train.tolist() == [0, 0, 1]
    assert (data.x_train == X_TRAIN[[0, 2, 1], None]).all()
    assert (data.x_test == X_TEST[:2, None]).all()


def test_hidden_files_and_folders_of_other_programs_are_passed_over(tmp_path, capsys):
    write_folder(tmp_path, X_TRAIN[:2], X_TEST[:2])
    for part in ("train", "test"):
        save(tmp_path / part / ".ipynb_checkpoints" / "0-checkpoint.png", X_TRAIN[2])  # Jupyter
        (tmp_path / part / "a" / "._0.png").write_bytes(b"\0\5\x16\7" + bytes(78))  # macOS
        (tmp_path / part / "a" / ".ipynb_checkpoints").mkdir()
        (tmp_path / part / ".DS_Store").write_bytes(b"")
    data = load_data("folder", tmp_path)
    assert (data.classes, len(data.x_train), len(data.x_test)) == (("a", "b"), 2, 2)
    assert capsys.readouterr().err == ""
    shutil.rmtree(tmp_path / "train")
    write_tinyimagenet(tmp_path)
    save(tmp_path / "train" / ".trash" / "images" / "a.JPEG", X_TRAIN[2])
    (tmp_path / "train" / "n1" / "images" / "._c.JPEG").write_bytes(b"")
    assert load_data("tinyimagenet", tmp_path).classes == ("n1", "n2")


def test_what_is_left_out_of_a_folder_is_told(tmp_path, capsys):
    write_folder(tmp_path, X_TRAIN[:2], X_TEST[:2])
    save(tmp_path / "train" / "a" / "1.jfif", X_TRAIN[2], format="JPEG")
    save(tmp_path / "train" / "a" / "more.png" / "2.png", X_TRAIN[2])
    for name in ("train/b/2.gif", "train/b/notes.txt", "test/index.txt"):
        (tmp_path / name).write_bytes(b"")
    data = load_data("folder", tmp_path, name="mine")
    assert (data.classes, len(data.x_train), len(data.x_test)) == (("a", "b"), 3, 2)
    assert capsys.readouterr().err == (
        "warning: data 'mine': left out, no images of a class: train/a/more.png, train/b/2.gif, train/b/notes.txt "
        "and 1 more\n"
    )


def test_a_byte_order_mark_before_names_is_no_part_of_them(tmp_path):
    annotations = write_tinyimagenet(tmp_path) / "val" / "val_annotations.txt"
    annotations.write_bytes(b"\xef\xbb\xbf" + annotations.read_bytes())
    assert load_data("tinyimagenet", tmp_path).y_test.tolist() == [0, 1]


def test_one_colour_image_makes_the_set_colour(tmp_path):
    data = load_data("folder", write_folder(tmp_path, [X_TRAIN[0], COLOUR[1]], X_TEST[:2]))
    assert data.shape == (3, 5, 4)
    assert (data.x_train[0] == X_TRAIN[0]).all()
    assert (data.x_train[1] == COLOUR[1].transpose(2, 0, 1)).all()


def test_palette_transparency_and_black_and_white_are_understood(tmp_path):
    write_folder(tmp_path, X_TRAIN[:2], X_TEST[:2])
    flat = Image.new("RGB", (4, 5), (250, 10, 30))
    flat.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "train" / "a" / "1.png", transparency=b"\x80")
    flat.convert("RGBA").save(tmp_path / "train" / "a" / "2.png")
    Image.new("1", (4, 5), 1).save(tmp_path / "train" / "a" / "3.png")
    data = load_data("folder", tmp_path)
    assert data.x_train[1:4, :, 0, 0].tolist() == [[250, 10, 30], [250, 10, 30], [255, 255, 255]]


def test_images_of_other_sizes_need_a_side(tmp_path):
    write_folder(tmp_path, [X_TRAIN[0], X_TRAIN[1, 1:]], X_TEST[:2])
    assert refusal("folder", tmp_path) == (
        f"data 'mine': {tmp_path}/train/b/0.png: 4x4 pixels, the first image 4x5; give side to resize all"
    )
    assert load_data("folder", tmp_path, side=3).shape == (1, 3, 3)


def test_images_that_have_the_side_are_left_as_they_are(tmp_path):
    square = X_TRAIN[:2, :4]
    data = load_data("folder", write_folder(tmp_path, square, square), side=4)
    assert (data.x_train == square[:, None]).all()


def test_jpeg_and_webp_are_read(tmp_path):
    write_folder(tmp_path, COLOUR[:2], COLOUR[2:4])
    save(tmp_path / "train" / "a" / "1.jpg", np.full((5, 4, 3), 128, np.uint8))
    save(tmp_path / "train" / "a" / "2.webp", COLOUR[4], lossless=True)
    data = load_data("folder", tmp_path)
    assert (data.x_train[1] == 128).all()
    assert (data.x_train[2] == COLOUR[4].transpose(2, 0, 1)).all()


def test_missing_folders_and_classes_are_refused(tmp_path):
    assert refusal("folder", tmp_path) == (
        f"data 'mine': {tmp_path}/train is missing; put train/CLASS/ and test/CLASS/ with images into {tmp_path}"
    )
    write_folder(tmp_path, X_TRAIN[:2], X_TEST[:2])
    save(tmp_path / "train" / "c" / "0.png", X_TRAIN[2])
    assert refusal("folder", tmp_path) == (
        f"data 'mine': {tmp_path}: 3 in train and 2 in test classes, must be the same; in one only: c"
    )
    (tmp_path / "test" / "c").mkdir()
    assert refusal("folder", tmp_path) == (
        f"data 'mine': {tmp_path}/test/c holds no image (.png .jpg .jpeg .jfif .bmp .webp)"
    )


def test_the_test_part_of_a_folder_may_be_called_val(tmp_path):
    write_folder(tmp_path, X_TRAIN[:2], X_TEST[:2])
    (tmp_path / "test").rename(tmp_path / "val")
    assert (load_data("folder", tmp_path).x_test == X_TEST[:2, None]).all()


def write_tinyimagenet(folder):
    """Classes n1 and n2: two training images of n2, one of n1, and one of each to validate with."""
    shades = {"train/n2/images/b.JPEG": 200, "train/n2/images/a.JPEG": 100, "train/n1/images/c.JPEG": 50}
    for path, shade in (shades | {"val/images/v0.JPEG": 10, "val/images/v1.JPEG": 20}).items():
        save(folder / path, np.full((64, 64), shade, np.uint8))
    (folder / "val" / "val_annotations.txt").write_text("v1.JPEG\tn1\t0\t0\t9\t9\nv0.JPEG\tn2\t0\t0\t9\t9\n")
    return folder


def test_tiny_imagenet_is_read_as_it_is_published(tmp_path):
    data = load_data("tinyimagenet", write_tinyimagenet(tmp_path), name="mine")
    assert data.classes == ("n1", "n2")
    assert data.shape == (3, 64, 64)
    assert (data.y_train.tolist(), data.x_train[:, 1, 5, 5].tolist()) == ([0, 1, 1], [50, 100, 200])
    assert (data.y_test.tolist(), data.x_test[:, 1, 5, 5].tolist()) == ([0, 1], [20, 10])


def test_what_is_no_tiny_imagenet_is_refused(tmp_path):
    assert refusal("tinyimagenet", tmp_path) == (
        f"data 'mine': {tmp_path}/train is missing; put Tiny ImageNet (train/, val/) into {tmp_path}"
    )
    annotations = write_tinyimagenet(tmp_path) / "val" / "val_annotations.txt"
    for line in ("v0.JPEG\tn3", "v0.JPEG", "../../v0.JPEG\tn1"):
        annotations.write_text(line)
        assert refusal("tinyimagenet", tmp_path) == (
            f"data 'mine': {annotations}: line {line.split(chr(9))} names no file of one of the 2 classes of train/"
        )
    annotations.write_text("v9.JPEG\tn1")
    assert refusal("tinyimagenet", tmp_path).startswith(f"data 'mine': {tmp_path}/val/images/v9.JPEG: cannot be read: ")


def test_empty_parts_are_refused(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    assert refusal("folder", tmp_path) == (
        f"data 'mine': {tmp_path}: 0 in train and 0 in test classes, must be the same; in one only: none"
    )


def test_damaged_and_unsuitable_images_are_refused(tmp_path):
    write_folder(tmp_path, X_TRAIN[:2], X_TEST[:2])
    file = tmp_path / "train" / "b" / "0.png"
    whole = file.read_bytes()
    for damaged in (b"", b"no image", whole[:-20], whole[:50] + b"\xff" * 9 + whole[59:]):
        file.write_bytes(damaged)
        assert refusal("folder", tmp_path).startswith(f"data 'mine': {file}: cannot be read: ")
    Image.fromarray(np.zeros((5, 4), np.uint16)).save(file)
    assert refusal("folder", tmp_path) == (
        f"data 'mine': {file}: pixels of mode I;16, must be one of 1, L, LA, P, RGB, RGBA, CMYK, YCbCr"
    )
    Image.new("1", (8200, 8200)).save(file)
    assert refusal("folder", tmp_path) == f"data 'mine': {file}: 8200x8200 pixels are more than 67108864"


def test_a_decompression_bomb_is_refused(tmp_path):
    write_folder(tmp_path, X_TRAIN[:2], X_TEST[:2])
    file = tmp_path / "train" / "b" / "0.png"
    header = b"IHDR" + struct.pack(">IIBBBBB", 2**20, 2**20, 8, 0, 0, 0, 0)
    png = file.read_bytes()
    file.write_bytes(png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:])
    assert refusal("folder", tmp_path).startswith(f"data 'mine': {file}: cannot be read: Image size (1099511627776 pix")


def test_tiles_are_cut_row_after_row(tmp_path):
    tiles = RNG.integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    sheet = np.concatenate([np.concatenate(list(tiles[row : row + 3]), axis=1) for row in (0, 3)])
    for part in ("train", "test"):
        save(tmp_path / part / "01_bear.webp", sheet[:4], lossless=True)
        save(tmp_path / part / "00_wolf.png", sheet)
    data = load_data("tiles", tmp_path, side=4)
    assert data.classes == ("wolf", "bear")
    assert data.y_train.tolist() == [0] * 6 + [1] * 3
    assert (data.x_train[:6] == tiles.transpose(0, 3, 1, 2)).all()
    assert (data.x_train[6:] == tiles[:3].transpose(0, 3, 1, 2)).all()
    assert refusal("tiles", tmp_path, side=5) == (
        f"data 'mine': {tmp_path}/train/00_wolf.png: 12x8 pixels are no sheet of 5x5 tiles"
    )


def test_tiles_of_one_class_name_twice_are_refused(tmp_path):
    for part in ("train", "test"):
        for name in ("0_a.png", "1_a.png"):
            save(tmp_path / part / name, X_TRAIN[0, :4])
    assert refusal("tiles", tmp_path, side=4) == "data 'mine': class names repeat: a, a"
