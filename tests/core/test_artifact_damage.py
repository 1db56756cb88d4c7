"""No damage of a .tsn file is accepted, however well it is forged, and no file asks for more than it holds."""

import bz2
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.small_network import put
from tests.helpers.tsn_files import SMALL, forged, header_of, of_bytes, one_layer_network, parts_of, refusal, set_at
from tsn_hw.core import artifact
from tsn_hw.core.artifact import from_bytes, to_bytes
from tsn_hw.core.container import MAX_HEADER_BYTES
from tsn_hw.core.errors import ArtifactError

KINDS = ("masks", "codes", "codebooks")


def words_of(layer):
    return {"layer": layer, "centroid_bits": 8, "exponent": 0, "first": 0, "entries": []}


# damage -------------------------------------------------------------------------------------------------------------


def test_a_file_cut_anywhere_is_refused():
    for end in range(len(SMALL)):
        refusal(SMALL[:end])
    assert refusal(SMALL[:9]) == f"cut: 9 bytes, its header ends at {40 + int.from_bytes(SMALL[4:8], 'little')}"
    assert refusal(SMALL[:-1]) == "the SHA-256 of header and sections does not match"


def test_a_longer_file_is_refused():
    assert refusal(SMALL + b"\0") == "the SHA-256 of header and sections does not match"


def test_a_file_of_a_version_to_come_is_refused():
    assert refusal(b"TSN3" + SMALL[4:]) == "version '3', this program reads versions 1 and 2"


def test_a_flipped_bit_anywhere_is_refused():
    data = to_bytes(one_layer_network())
    for place in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        refusal(bytes(damaged))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x80\x04N.", bytes(100), b"\xff" * 100])
def test_what_is_no_such_file_at_all_is_refused(data):
    assert refusal(data).startswith("no .tsn file, or a damaged one: ")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("{", "the header: not JSON ("),
        ("[" * 100_000, "the header: not JSON ("),
        ("9" * 5000, "the header: not JSON ("),
        ("[]", "the header must be a table, found list"),
        ("{}", "header: sizes = None: must be a list of whole numbers from 0 on"),
        ('{"sizes":[true]}', "header: sizes = [True]: must be a list of whole numbers from 0 on"),
        ('{"sizes":[1]}', "header: sizes: 1 bytes in all, there are 0"),
        ('{"a":NaN, "a":1}', "the header: not JSON (NaN is no finite number)"),
        ('{"a":1, "a":1}', "the header: not JSON ('a' stands there twice)"),
        ('{"a":1e999}', "the header: not JSON (1e999 is no finite number)"),
        ('{"a":9223372036854775808}', "the header: not JSON (9223372036854775808 is beyond 64 bits)"),
    ],
)
def test_a_header_that_is_no_header_is_refused(text, cause):
    assert refusal(of_bytes(text.encode())).startswith(cause)


def test_a_header_spelled_otherwise_is_refused():
    header, parts = header_of(SMALL), parts_of(SMALL)
    header["sizes"] = list(map(len, parts.values()))
    text = json.dumps(header).encode()
    assert refusal(of_bytes(text, sizes=b"".join(parts.values()))) == "the file is not written as the format asks"


def test_a_header_compressed_otherwise_is_refused():
    text = b'{"sizes":[]}'
    assert refusal(of_bytes(b"", bz2.compress(text, 1))) == "the file is not written as the format asks"
    assert refusal(of_bytes(b"", text)) == "the header is not compressed with bzip2 (Invalid data stream)"
    assert refusal(of_bytes(b"", bz2.compress(text) + b"x")) == "the header is not one whole bzip2 stream"
    assert refusal(of_bytes(b"", bz2.compress(text)[:-1])) == "the header is not one whole bzip2 stream"


def test_a_header_that_grows_without_end_is_refused():
    text = b" " * (MAX_HEADER_BYTES + 1)
    assert refusal(of_bytes(text)) == "the header takes more than 16777216 bytes"


def test_a_header_that_no_reader_would_take_is_not_written():
    classes = ("c" * MAX_HEADER_BYTES, "d")
    with pytest.raises(ArtifactError, match=r"^the header takes \d+ bytes, must be at most 16777216$"):
        to_bytes(put(one_layer_network(), ["tasks", 0, "classes"], classes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_at("author", value="me"), "header: unknown key 'author'"),
        (lambda header: {k: v for k, v in header.items() if k != "banks"}, "header: has no 'banks'"),
        (set_at("input", value=[]), "header: input: must be a table, found list"),
        (set_at("input", "shape", value=[1, 3.0, 2]), "header: input: shape[1] = 3.0: must be a whole number"),
        (set_at("input", "shape", value=[1, 3]), "the network contradicts itself: input shape (1, 3): must be"),
        (set_at("input", "format", value=[8, 0, 0]), "header: input: format[1] = 0: must be true or false"),
        (set_at("input", "format", value=[17, False, 0]), "the network contradicts itself: activation format: 17 bits"),
        (set_at("layers", value={}), "header: layers = {}: must be a list"),
        (set_at("layers", value=[{}] * 5000), "header: layers: 5000 entries, must be 0..4096"),
        (
            set_at("layers", 0, "kind", value="Conv3d"),
            "header: layers[0]: kind = 'Conv3d': must be one of Linear, Conv2d",
        ),
        (set_at("layers", 0, "kind", value=["Conv2d"]), "header: layers[0]: kind = ['Conv2d']: must be one of Linear"),
        (set_at("layers", 0, "kernel", value=[1]), "header: layers[0]: kernel: 1 entries, must be 2"),
        (
            set_at("layers", 0, "holes", value=1),
            "header: layers[0]: unknown key 'holes'; known are name, in_channels,",
        ),
        (set_at("layers", 0, "groups", value=10**30), f"the header: not JSON ({10**30} is beyond 64 bits)"),
        (set_at("layers", 6, "out_features", value=2**40), "the network contradicts itself: layer 'head_a': "),
        (set_at("layers", 1, "inputs", value=[5]), "the network contradicts itself: layer 'mix': inputs"),
        (set_at("banks", 0, value=[]), "header: sizes: 16 entries, must be 4"),
        (set_at("banks", 0, 0, "layer", value=1), "header: banks[0]: layer 1 after 1: must rise, below 8"),
        (set_at("banks", 0, 3, "layer", value=8), "header: banks[0]: layer 8 after 6: must rise, below 8"),
        (set_at("banks", 0, 1, "layer", value=2), "bank 0, layer 'add': a "),
        (set_at("banks", 0, 0, "first", value=1), "bank 0, layer 'conv': 3 codebooks for 2 tasks"),
        (set_at("banks", 0, 0, "entries", value=[2, 1, 0]), "bank 0, layer 'conv': 3 codebooks for 2 tasks"),
        (
            set_at("banks", 0, 2, "entries", value=[2, 0]),
            "the header is not the one that the format gives this network",
        ),
        (set_at("banks", 0, 0, "entries", value=[2, 257]), "header: banks[0][0]: entries[1] = 257: must be 0..256"),
        (set_at("banks", 0, 0, "entries", value=[2, 2]), "bank 0, layer 'conv': codebooks: 4 fields of 32 bits in all"),
        (
            set_at("banks", 0, 0, "entries", value=[1, 2]),
            "the network contradicts itself: bank 0, layer 'conv': code 1 at (0, 0, 0, 0) exceeds the 1 entries",
        ),
        (set_at("banks", 0, 0, "centroid_bits", value=0), "header: banks[0][0]: centroid_bits = 0: must be 1..64"),
        (
            set_at("banks", 0, 0, "exponent", value=99),
            "the network contradicts itself: bank 0, layer 'conv': exponent 99",
        ),
        (set_at("tasks", 0, "bank", value=1), "header: tasks[0]: bank = 1: must be 0..0"),
        (set_at("tasks", 0, "name", value=7), "header: tasks[0]: name = 7: must be a text"),
        (set_at("tasks", 0, "name", value="b"), "the network contradicts itself: task name 'b' is used 2 times"),
        (set_at("tasks", 0, "classes", value=["cat"]), "the network contradicts itself: task 'a': 1 classes"),
        (set_at("tasks", 0, "steps", 0, value=[]), "header: tasks[0]: steps: layer None after -1: must rise, below 8"),
        (set_at("tasks", 0, "steps", 1, 0, value=0), "header: tasks[0]: steps: layer 0 after 0: must rise, below 8"),
        (set_at("tasks", 0, "steps", 0, 0, value=False), "header: tasks[0]: steps: layer False after -1: must rise"),
        (
            set_at("tasks", 0, "steps", 0, value=[0, 1, 0, 0, 8]),
            "header: tasks[0]: steps[0]: 5 entries, must be 1, 4 or 7",
        ),
        (set_at("tasks", 0, "steps", 0, value=[0, 1, 17, 0]), "header: tasks[0]: steps[0][1] = 17: must be 0..16"),
        (set_at("tasks", 0, "steps", 0, value=[0, 1, 0, 65]), "header: tasks[0]: steps[0][2] = 65: must be 0..64"),
        (set_at("tasks", 0, "steps", 0, 2, value=4), "task 'a', requantization: 8 bits in 0 bytes"),
        (set_at("tasks", 0, "seal", value="00"), "header: tasks[0]: unknown key 'seal'"),
        (
            set_at("tasks", 0, "steps", 0, 1, value=63),
            "the network contradicts itself: task 'a', layer 'conv': shift 63",
        ),
    ],
)
def test_a_contradictory_header_is_refused_even_when_its_digest_is_right(change, message):
    assert refusal(forged(change)).startswith(message)


@pytest.mark.parametrize(
    ("name", "part", "message"),
    [
        ("extra", b"1", "header: sizes: 17 entries, must be 16"),
        ("bank0/conv/masks", b"\x03", "bank 0, layer 'conv': masks: 3 is no kind of text"),
        (
            "bank0/conv/codes",
            b"\x80\x00",
            "bank 0, layer 'conv': codes: 2 fields of 2 bits in all take 1 bytes, found 2",
        ),
        ("bank0/conv/codes", b"\x81", "bank 0, layer 'conv': codes: the last byte 0x81 is not padded with zeros"),
        ("bank0/conv/codes", b"\xc0", "the network contradicts itself: bank 0, layer 'conv': code 1 at (1, 0, 0, 0)"),
        ("bank0/conv/codebooks", b"\x80", "bank 0, layer 'conv': codebooks: 3 fields of 24 bits in all take 3 bytes"),
        ("task0/requantization", b"\x00", "task 'a', requantization: 0 bits in 1 bytes"),
    ],
)
def test_a_contradictory_section_is_refused_even_when_its_digest_is_right(name, part, message):
    assert refusal(forged(change_sections=lambda parts: parts.update({name: part}))).startswith(message)


def test_a_missing_section_is_refused():
    assert refusal(forged(change_sections=lambda parts: parts.update({"bank0/conv/codes": b""}))) == (
        "bank 0, layer 'conv': codes: 2 fields of 2 bits in all take 1 bytes, found 0"
    )
    assert refusal(forged(change_sections=lambda parts: parts.pop("task1/routing"))) == (
        "header: sizes: 15 entries, must be 16"
    )


def test_a_small_file_cannot_ask_for_huge_masks():
    """2**28 weights a layer, eight layers, of two bytes of masks each."""

    def enlarge(header):
        header["input"]["shape"] = [2**14]
        header["layers"] = [
            {"kind": "Linear", "name": f"fc{i}", "in_features": 2**14, "out_features": 2**14, "inputs": [i - 1]}
            for i in range(8)
        ]
        header["banks"] = [[words_of(i) for i in range(8)]]
        header["tasks"] = [header["tasks"][0] | {"steps": [[i, 0, 0, 0, 8, False, 0] for i in range(8)]}]

    def empty(parts):
        parts.clear()
        parts.update({f"bank0/fc{i}/{kind}": b"\x01\x00" * (kind == "masks") for i in range(8) for kind in KINDS})
        parts.update({"task0/requantization": b"", "task0/routing": b""})

    assert (
        refusal(forged(enlarge, empty))
        == "the network takes 15034482688 bytes in memory, at most 134348800 for 16 bytes of sections"
    )


def test_a_small_file_cannot_ask_for_huge_activations():
    side = 2**20

    def enlarge(header):
        conv = header["layers"][0] | {"padding": [side, side]}
        average = {
            "kind": "AvgPool",
            "name": "average",
            "kernel": [2 * side, 2 * side],
            "stride": [9, 9],
            "inputs": [0],
        }
        header["layers"] = [conv, average]
        header["banks"] = [[header["banks"][0][0]]]
        header["tasks"] = [header["tasks"][0] | {"steps": [[i, 0, 0, 0, 8, False, 0] for i in range(2)]}]

    def first(parts):
        for name in list(parts):
            if not name.startswith(("bank0/conv", "task0")):
                del parts[name]

    message = f"layer 'conv': its output (2, {2 * side + 3}, {2 * side + 2}) has more than 16777216 activations"
    assert refusal(forged(enlarge, first)) == message


def test_a_very_deep_network_is_read_to_its_end_not_a_crash():
    def deepen(header):
        header["layers"] = [{"kind": "Flatten", "name": f"f{i}", "inputs": [i - 1]} for i in range(3000)]
        header["layers"].append({"kind": "Linear", "name": "fc", "in_features": 6, "out_features": 2, "inputs": [2999]})
        header["banks"] = [[words_of(3000)]]
        header["tasks"] = [header["tasks"][0] | {"steps": [*([i] for i in range(3000)), [3000, 0, 0, 0]]}]

    def empty(parts):
        parts.clear()
        parts.update({f"bank0/fc/{kind}": b"\x01\x00" * (kind == "masks") for kind in KINDS})
        parts.update({"task0/requantization": b"", "task0/routing": b""})

    assert len(from_bytes(forged(deepen, empty)).layers) == 3001


@given(st.data())
def test_random_nonsense_in_a_header_is_refused_or_read(data):
    """Any JSON value anywhere: an ArtifactError or a network, nothing else."""
    nonsense = st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=6,
    )

    def change(header):
        place, key = header, None
        while isinstance(place, dict | list) and len(place):
            keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
            parent, key = place, data.draw(st.sampled_from(keys))
            place = parent[key]
            if data.draw(st.integers(0, 3)) == 0:
                break
        parent[key] = data.draw(nonsense)

    with contextlib.suppress(ArtifactError):
        assert from_bytes(forged(change)).layers


def test_the_limit_of_memory_leaves_room_for_real_networks():
    """ResNet-18 of 11 million weights and 100 tasks, each of which uses a hundredth: 9 bits of mask a used weight."""
    weights = 11_000_000
    needed = weights * (artifact.WORK_BYTES + artifact.WORD_BYTES + 100)
    assert needed <= artifact.FREE_BYTES + artifact.BYTES_PER_BYTE * (weights // 100 * 9 * 100 // 8) / 3
