"""Memory files: exact texts, exact inverses, tools that read them, and every damage refused."""

import json
import re
import shutil
import subprocess
import zlib
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from export.memories.files import INDEX, files_of, memory_files, read_memories, write_memories
from export.memories.formats import MEMORY_FORMATS, read_memory, words_sha256, write_memory
from sim.cost import estimate_cost
from tests.helpers.handmade import U8, linear, requantization
from tests.helpers.images import settings, word
from tests.helpers.memory_images import DIGEST, SMALL, image_of
from tests.helpers.small_network import NET
from tsn_hw.core.errors import ArtifactError, ExportError, FoldingError
from tsn_hw.hardware.folding import Folding, HardwareSettings, UnitSettings
from tsn_hw.hardware.pipeline import accelerator


@st.composite
def memories(draw):
    """Memories of every width, the narrow, the wide and those around a limb, with words at both extremes."""
    width = draw(st.sampled_from([1, 4, 63, 64, 65, 127, 128, 1003]) | st.integers(1, 1100))
    depth = draw(st.integers(1, 70))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    words = [int.from_bytes(rng.bytes(140), "little") % 2**width for _ in range(depth)]
    words[-1], words[0] = 2**width - 1, draw(st.sampled_from([0, 1, 2**width - 1]))
    return image_of(words, width)


def tool(name):
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


NOTES = [
    "fc.words: 3 words of 5 bits",
    "address, outermost first: line 3",
    "word, lowest bits first: 1 x (code 5 bits)",
    f"SHA-256 of the words, each in 1 bytes, lowest first: {DIGEST}",
]
TEXTS = {
    "mem": [*(f"// {note}" for note in NOTES), "@0", "01", "1f", "0a"],
    "hex": [":03000000011F0AD3", ":00000001FF"],
    "coe": [
        *(f"; {note}" for note in NOTES),
        "memory_initialization_radix=16;",
        "memory_initialization_vector=",
        "01,",
        "1f,",
        "0a;",
    ],
    "mif": [
        *(f"-- {note}" for note in NOTES),
        *["DEPTH = 3;", "WIDTH = 5;", "ADDRESS_RADIX = HEX;", "DATA_RADIX = HEX;", "CONTENT BEGIN"],
        *["0 : 01;", "1 : 1f;", "2 : 0a;", "END;"],
    ],
    "dat": ["01", "1f", "0a"],
    "h": [
        *(f"// {note}" for note in NOTES),
        *["#ifndef TSN_FC_WORDS_H", "#define TSN_FC_WORDS_H"],
        "static const unsigned long long tsn_fc_words[3][1] = {",
        *["  {0x0000000000000001ULL},", "  {0x000000000000001fULL},", "  {0x000000000000000aULL},", "};", "#endif"],
    ],
}


@pytest.mark.parametrize("form", TEXTS)
def test_three_words_of_five_bits_in_every_text_format(form):
    assert write_memory(form, SMALL).decode() == "".join(f"{line}\n" for line in TEXTS[form])


def test_limbs_stand_lowest_first_and_digits_highest_first():
    wide = image_of([0xFEDCBA9876543210_0123456789ABCDEF], 128)
    assert b"  {0x0123456789abcdefULL, 0xfedcba9876543210ULL},\n" in write_memory("h", wide)
    assert write_memory("dat", wide) == b"fedcba98765432100123456789abcdef\n"
    assert write_memory("hex", wide).splitlines()[0] == b":10000000EFCDAB89674523011032547698BADCFEF8"


def test_intel_hex_counts_on_beyond_the_first_page():
    lines = write_memory("hex", image_of([0x5A] * 0x10021, 8)).decode().splitlines()
    assert lines[2047:2050] == [":20FFE000" + "5A" * 32 + "C1", ":020000040001F9", ":20000000" + "5A" * 32 + "A0"]
    assert lines[2050:] == [":010020005A85", ":00000001FF"]


# inverses -----------------------------------------------------------------------------------------------------------


@given(memories())
def test_every_format_reads_what_it_writes(image):
    for form in MEMORY_FORMATS:
        found = read_memory(form, image.layout, words_sha256(image), write_memory(form, image))
        np.testing.assert_array_equal(found.limbs, image.limbs)
        assert found.layout == image.layout


@given(memories())
def test_words_are_found_again_without_our_readers(image):
    expected = [word(image, address) for address in range(image.depth)]
    texts = {form: write_memory(form, image).decode() for form in ("mem", "coe", "mif", "dat")}
    assert [int(line, 16) for line in texts["dat"].split()] == expected
    assert [int(line, 16) for line in texts["mem"].partition("@0")[2].split()] == expected
    vector = re.search(r"vector=([^;]*);", texts["coe"])[1]
    assert [int(value, 16) for value in vector.split(",")] == expected
    pairs = re.findall(r"^([0-9a-f]+) : ([0-9a-f]+);$", texts["mif"], re.MULTILINE)
    assert [(int(address, 16), int(value, 16)) for address, value in pairs] == list(enumerate(expected))


@pytest.mark.parametrize("mask", ["deep", "runtime"])
def test_the_files_hold_as_many_bits_as_the_cost_model_charges(mask):
    design = accelerator(NET, settings(NET, pe=2, mask=mask, max_tasks=3))
    files = memory_files(design, ["dat"])
    held = {}
    for entry in json.loads(files[INDEX])["memories"]:
        name, words = f"{entry['unit']}.{entry['kind']}", files[f"{entry['unit']}.{entry['kind']}.dat"].decode().split()
        assert max(int(text, 16) for text in words) < 1 << entry["width_bits"]
        held[name] = len(words) * entry["width_bits"]
    assert held == {image.name: image.bits for image in design.images}
    charged = {f"{m.unit}.{m.kind}": m.bits for unit in design.units for m in design.memories_of(unit)}
    assert held == {name: bits for name, bits in charged.items() if not name.endswith((".window", ".vector", ".fifo"))}
    assert sum(held.values()) == estimate_cost(design).images_bits


# tools --------------------------------------------------------------------------------------------------------------

WIDTHS = (1, 4, 63, 64, 65, 1003)


def random_image(width):
    rng = np.random.default_rng(width)
    return image_of([int.from_bytes(rng.bytes(140), "little") % 2**width for _ in range(37)], width, f"w{width}")


def test_iverilog_reads_mem_files_as_written(tmp_path):
    iverilog, vvp = tool("iverilog"), tool("vvp")
    lines = []
    for image in map(random_image, WIDTHS):
        (tmp_path / f"{image.name}.mem").write_bytes(write_memory("mem", image))
        lines.append(f"reg [{image.width_bits - 1}:0] {image.unit} [0:{image.depth - 1}];")
        lines.append(f'initial begin $readmemh("{image.name}.mem", {image.unit});')
        lines.append(f'for (i = 0; i < {image.depth}; i = i + 1) $display({image.width_bits},, "%h", {image.unit}[i]);')
        lines.append("end")
    (tmp_path / "top.v").write_text("\n".join(["module top; integer i;", *lines, "endmodule\n"]))
    subprocess.run([iverilog, "-o", "top.vvp", "top.v"], cwd=tmp_path, check=True)
    done = subprocess.run([vvp, "-n", "top.vvp"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "WARNING" not in done.stdout + done.stderr
    found = [line.split() for line in done.stdout.splitlines()]
    for image in map(random_image, WIDTHS):
        values = [int(value, 16) for width, value in found if int(width) == image.width_bits]
        assert values == [word(image, address) for address in range(image.depth)]


def test_objcopy_reads_hex_files_as_written(tmp_path):
    objcopy = tool("objcopy")
    for image in [*map(random_image, WIDTHS), image_of(list(range(7)) * 10000, 24)]:
        (tmp_path / "words.hex").write_bytes(write_memory("hex", image))
        subprocess.run([objcopy, "-I", "ihex", "-O", "binary", "words.hex", "words.bin"], cwd=tmp_path, check=True)
        assert (tmp_path / "words.bin").read_bytes() == image.octets.tobytes()


def test_a_compiler_reads_h_files_as_written(tmp_path):
    compiler = tool("g++")
    source = ["#include <cstdio>", *(f'#include "w{width}.words.h"' for width in WIDTHS), "int main() {"]
    for image in map(random_image, WIDTHS):
        (tmp_path / f"{image.name}.h").write_bytes(write_memory("h", image))
        source.append(f'for (auto &w : tsn_{image.unit}_words) for (auto limb : w) std::printf("%llx\\n", limb);')
    (tmp_path / "main.cpp").write_text("\n".join([*source, "}\n"]))
    command = [compiler, "-std=c++14", "-Wall", "-Wextra", "-pedantic", "-Werror", "main.cpp", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True)
    expected = np.concatenate([image.limbs.ravel() for image in map(random_image, WIDTHS)])
    assert [int(line, 16) for line in done.stdout.split()] == expected.tolist()


def test_numpy_reads_npy_files_as_written(tmp_path):
    for image in map(random_image, WIDTHS):
        (tmp_path / "words.npy").write_bytes(write_memory("npy", image))
        np.testing.assert_array_equal(np.load(tmp_path / "words.npy"), image.limbs, strict=True)


# damage -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "old", "new", "message"),
    [
        ("mem", b"\n1f\n", b"\n1g\n", "fc.words.mem, line 7: '1g' are no hexadecimal digits"),
        ("mem", b"\n1f\n", b"\n1F\n", "fc.words.mem, line 7: '1F' are no hexadecimal digits"),
        ("mem", b"\n1f\n", b"\n3f\n", "fc.words.mem, line 7: 0x3f does not fit the 5 bits of a word"),
        ("mem", b"@0", b"@1", "fc.words.mem, line 5, column 2: '1', must be '0'"),
        ("mem", b"5 bits\n", b"6 bits\n", "fc.words.mem, line 1, column 25: '6 bits', must be '5 bits'"),
        ("mem", b"0a\n", b"", "fc.words.mem: 243 bytes, must be 246"),
        ("coe", b"=16", b"=10", "fc.words.coe, line 5, column 30: '0;', must be '6;'"),
        ("coe", b"1f,", b"1f;", "fc.words.coe, line 8, column 3: ';', must be ','"),
        ("mif", b"1 : 1f", b"1 : 1x", "fc.words.mif, line 11: '1x' are no hexadecimal digits"),
        ("mif", b"2 : 0a", b"1 : 0a", "fc.words.mif, line 12, column 1: '1 : 0a;', must be '2 : 0a;'"),
        ("h", b"#endif", b"#endfi", "fc.words.h, line 12, column 5: 'fi', must be 'if'"),
        ("h", b"000001f", b"000003f", "fc.words.h, line 9: 0x3f does not fit the 5 bits of a word"),
        ("hex", b":03", b";03", "fc.words.hex, line 1: ';03000000011F0AD3' is no record of Intel HEX"),
        ("hex", b"1F0A", b"1E0A", "fc.words.hex, line 1: checksum 0xd3, must be 0xd4"),
        ("hex", b":00000001FF\n", b"", "fc.words.hex, line 2, column 1: '', must be ':00000001FF'"),
        ("hex", b"03000000011F0AD3", b"02000000011FDE", "fc.words.hex: 2 bytes of data, must be 3"),
        (
            "hex",
            b":03000000011F0AD3",
            b":0300000001FF0AF3",
            "fc.words.hex, word 1: 0xff does not fit the 5 bits of a word",
        ),
        ("dat", b"1f", b"1f1f", "fc.words.dat: 11 bytes, must be 9"),
        ("dat", b"1f\n0a", b"1f 0a", "fc.words.dat, line 2, column 3: ' 0a', must be ''"),
        ("npy", b"<u8", b"<i8", "fc.words.npy: no .npy file of uint64 (3, 1)"),
        ("npy", b"\x1f\x00", b"\x1f\x01", "fc.words.npy, word 1: 0x11f does not fit the 5 bits of a word"),
    ],
)
def test_a_damaged_file_is_refused_with_its_place(form, old, new, message):
    data = write_memory(form, SMALL)
    assert data.count(old) >= 1
    with pytest.raises(ArtifactError) as caught:
        read_memory(form, SMALL.layout, DIGEST, data.replace(old, new, 1))
    assert str(caught.value) == message


@pytest.mark.parametrize("form", ["mem", "coe", "mif", "h"])
def test_another_word_is_refused_by_the_digest_at_the_head(form):
    data = re.sub(rb"1f(ULL|[,;]?\n)", rb"1e\1", write_memory(form, SMALL))
    other = sha256(b"\x01\x1e\x0a").hexdigest()
    with pytest.raises(ArtifactError) as caught:
        read_memory(form, SMALL.layout, DIGEST, data)
    line = next(text for text in TEXTS[form] if "SHA-256" in text)
    assert str(caught.value) == f"fc.words.{form}, line 4: {line!r}, but for its words {line.replace(DIGEST, other)!r}"


@pytest.mark.parametrize("form", ["hex", "dat", "npy"])
def test_another_word_is_refused_by_the_digest_of_the_index_where_a_file_has_none(form):
    other = image_of([0x01, 0x1E, 0x0A], 5)
    with pytest.raises(ArtifactError) as caught:
        read_memory(form, SMALL.layout, DIGEST, write_memory(form, other))
    assert str(caught.value) == f"fc.words.{form}: its words have SHA-256 {words_sha256(other)}, must have {DIGEST}"


@examples(max_examples=60)
@given(memories(), st.data())
def test_no_changed_cut_or_longer_file_is_accepted(image, data):
    for form in MEMORY_FORMATS:
        whole = bytearray(write_memory(form, image))
        place = data.draw(st.integers(0, len(whole) - 1))
        changed = bytearray(whole)
        changed[place] ^= data.draw(st.integers(1, 255))
        for damaged in (changed, whole[:place], whole + b"\n"):
            with pytest.raises(ArtifactError, match=rf"^fc\.words\.{form}[:,] [^\n]*$"):
                read_memory(form, image.layout, words_sha256(image), bytes(damaged))


# folders ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def design():
    return accelerator(NET, settings(NET, max_tasks=3))


def test_a_folder_is_read_as_it_was_written(tmp_path, design):
    written = write_memories(design, tmp_path)
    assert sorted(written) == sorted(tmp_path.iterdir())
    images = design.images
    assert {path.name for path in written} == {INDEX, *(f"{i.name}.{form}" for i in images for form in MEMORY_FORMATS)}
    for found, image in zip(read_memories(tmp_path), images, strict=True):
        assert found.layout == image.layout
        np.testing.assert_array_equal(found.limbs, image.limbs)


def test_the_index_says_what_every_memory_is(design):
    files = memory_files(design, ["mem", "npy"])
    entries = {(entry["unit"], entry["kind"]): entry for entry in json.loads(files[INDEX])["memories"]}
    image = next(image for image in design.images if image.name == "mix.words")
    assert entries["mix", "words"] == {
        "unit": "mix",
        "kind": "words",
        "depth": 4,
        "width_bits": 4,
        "address": [
            {"name": "region", "length": 1},
            {"name": "row_fold", "length": 2},
            {"name": "column_fold", "length": 2},
        ],
        "lanes": 1,
        "lane": [{"name": "code", "bits": 2, "signed": False}, {"name": "prefix", "bits": 2, "signed": False}],
        "sha256": sha256(image.octets.tobytes()).hexdigest(),
        "crc32": f"{zlib.crc32(image.octets.tobytes()):08x}",
        "files": [
            {"name": f"mix.words.{form}", "sha256": sha256(files[f"mix.words.{form}"]).hexdigest()}
            for form in ("mem", "npy")
        ],
    }


def test_the_same_network_gives_the_same_bytes(design):
    assert memory_files(design) == memory_files(accelerator(NET, settings(NET, max_tasks=3)))


def test_an_unknown_format_is_refused(design):
    with pytest.raises(ExportError, match=r"^format 'bin': must be one of mem, hex, coe, mif, dat, h, npy$"):
        memory_files(design, ["mem", "bin"])


def test_memories_that_no_part_has_are_refused_before_they_are_built():
    settings = HardwareSettings({"head": UnitSettings(Folding(1))}, max_classes=2**20, max_tasks=4096)
    net = linear([[1, 2]], requantization(None, channels=1), U8, head=False)
    with pytest.raises(FoldingError) as caught:
        memory_files(accelerator(net, settings))
    assert str(caught.value) == "the memories of the accelerator have 124554346496 bits, at most 4294967296 are built"


def test_two_memories_of_one_name_in_c_are_refused_where_c_is_written():
    images = [image_of([1], 1, unit) for unit in ("a.b", "a-b")]
    assert len(files_of(images, ["mem"])) == 3
    message = r"^memories 'a\.b\.words' and 'a-b\.words': both are tsn_a_b_words in C; rename one$"
    with pytest.raises(ExportError, match=message):
        files_of(images, ["h"])
