"""Bit fields and words: exact bits, both ways, and everything that is no word."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.networks import random_network, recipes
from tests.helpers.small_network import CONV, HEAD_B, MIX, NET
from tests.helpers.words import word_format, write_word
from tsn_hw.core.errors import ArtifactError, NetworkError
from tsn_hw.core.memory import (
    WordFormat,
    index_bits,
    pack_fields,
    unpack_fields,
)
from tsn_hw.core.network import UNUSED

fields = st.lists(
    st.integers(0, 64).flatmap(lambda width: st.tuples(st.integers(0, (1 << width) - 1), st.just(width))), max_size=300
)


def bits_of(data):
    return "".join(f"{byte:08b}" for byte in data)


# fields -------------------------------------------------------------------------------------------------------------


def test_fields_fill_bytes_from_the_most_significant_bit():
    assert bits_of(pack_fields([0b1, 0b01, 0b10110], [1, 2, 5])) == "1" + "01" + "10110"


def test_the_last_byte_is_padded_with_zeros():
    assert bits_of(pack_fields([0b111, 0b11], 5)) == "00111" + "00011" + "000000"


def test_a_field_may_span_words_and_bytes():
    packed = pack_fields([1, 2**64 - 1, 0, 2**63], [3, 64, 0, 64])
    assert bits_of(packed) == "001" + "1" * 64 + "1" + "0" * 63 + "00000"


@pytest.mark.parametrize("widths", [0, 1, 64, []])
def test_no_fields_are_no_bytes(widths):
    assert pack_fields([], widths) == b""
    assert unpack_fields(b"", widths, 0).tolist() == []


def test_fields_of_no_bits_take_no_room():
    assert pack_fields([0, 5, 0, 0], [0, 4, 0, 0]).hex() == "50"
    assert unpack_fields(b"\x50", [0, 4, 0, 0], 4).tolist() == [0, 5, 0, 0]
    assert unpack_fields(b"", 0, 3).tolist() == [0, 0, 0]


@given(fields)
def test_fields_of_individual_widths_come_back(pairs):
    values, widths = [value for value, _ in pairs], [width for _, width in pairs]
    packed = pack_fields(np.array(values, np.uint64), np.array(widths, np.int64))
    expected = "".join(f"{value:0{width}b}" if width else "" for value, width in pairs)
    assert bits_of(packed) == expected + "0" * (-len(expected) % 8)
    assert unpack_fields(packed, np.array(widths, np.int64), len(pairs)).tolist() == values


@given(st.integers(0, 64), st.integers(0, 200), st.integers(0, 2**32))
def test_one_width_for_all_gives_the_same_bits_as_many_equal_widths(width, count, seed):
    values = np.random.default_rng(seed).integers(0, 2**64, count, np.uint64) >> np.uint64(64 - width)
    values = values if width else np.zeros(count, np.uint64)
    packed = pack_fields(values, width)
    assert packed == pack_fields(values, np.full(count, width))
    assert unpack_fields(packed, width, count).tolist() == values.tolist()


@pytest.mark.parametrize("widths", [3, [3, 3, 3]])
def test_a_value_that_does_not_fit_is_refused(widths):
    with pytest.raises(NetworkError, match=r"^field 1: 8 does not fit 3 bits$"):
        pack_fields([7, 8, 1], widths)


def test_a_negative_value_is_refused():
    with pytest.raises(NetworkError, match=r"^field 0: 18446744073709551615 does not fit 8 bits$"):
        pack_fields(np.array([-1]), 8)


@pytest.mark.parametrize(("data", "found"), [(b"\x12", 1), (b"\x12\x30\x00", 3)])
def test_data_of_another_length_is_refused(data, found):
    with pytest.raises(ArtifactError, match=rf"^3 fields of 12 bits in all take 2 bytes, found {found}$"):
        unpack_fields(data, 4, 3)


def test_padding_that_is_not_zero_is_refused():
    with pytest.raises(ArtifactError, match=r"^the last byte 0x31 is not padded with zeros after bit 4$"):
        unpack_fields(b"\x12\x31", [4, 4, 4], 3)


def test_a_count_that_the_data_cannot_hold_is_refused_before_anything_is_allocated():
    with pytest.raises(ArtifactError, match="take 1152921504606846976 bytes, found 1"):
        unpack_fields(b"\x00", 8, 2**60)


# words --------------------------------------------------------------------------------------------------------------

EXAMPLE = WordFormat(code_bits=((2, 1, 0),))
CODEBOOKS = {(0, 0): [0.4576, 0.3456, 0.0, -0.3576], (0, 1): [0.2453, -0.1898]}


@pytest.mark.parametrize(("word", "parts", "value"), [("00011", (0, 0, 3), -0.3576), ("0011", (0, 1, 1), -0.1898)])
def test_the_words_of_the_paper_give_their_weights(word, parts, value):
    bank, prefix, code = EXAMPLE.read(word)
    assert (bank, prefix, code) == parts
    assert CODEBOOKS[bank, prefix][code] == value
    assert EXAMPLE.write(*parts) == word


@pytest.mark.parametrize(("count", "bits"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (256, 8), (257, 9)])
def test_an_index_has_at_least_one_bit(count, bits):
    assert index_bits(count) == bits


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("", "word '': must be digits 0 and 1"),
        ("00021", "word '00021': must be digits 0 and 1"),
        ("10011", "word '10011': bank 1, there are 1"),
        ("0001", "word '0001': 4 bits, owner 0 of bank 0 has words of 5"),
        ("000111", "word '000111': 6 bits, owner 0 of bank 0 has words of 5"),
        ("001", "word '001': 3 bits, owner 1 of bank 0 has words of 4"),
        ("00", "word '00': cut within its bank or prefix"),
        ("0", "word '0': cut within its bank or prefix"),
        ("0100", "word '0100': prefix 2 has no codebook in bank 0"),
        ("0110", "word '0110': prefix 3 has no codebook in bank 0"),
    ],
)
def test_what_is_no_word_is_refused(word, message):
    with pytest.raises(ArtifactError) as error:
        EXAMPLE.read(word)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((0, 0, 4), "bank 0, prefix 0: no word has the code 4 (2 code bits)"),
        ((0, 1, -1), "bank 0, prefix 1: no word has the code -1 (1 code bits)"),
        ((0, 2, 0), "bank 0, prefix 2: no word has the code 0 (0 code bits)"),
        ((0, 3, 0), "bank 0, prefix 3: no word has the code 0 (0 code bits)"),
        ((1, 0, 0), "bank 1, prefix 0: no word has the code 0 (0 code bits)"),
    ],
)
def test_words_that_cannot_be_are_not_written(parts, message):
    with pytest.raises(NetworkError) as error:
        EXAMPLE.write(*parts)
    assert str(error.value) == message


def test_the_words_of_a_network():
    assert write_word(NET, 0, CONV, (1, 0, 0, 0)) == "0" + "1" + "0"
    assert write_word(NET, 0, MIX, (1, 0, 0, 0)) == "0" + "1" + "10"
    assert word_format(NET, HEAD_B) == WordFormat(((0, 1),))


def test_an_unused_weight_has_no_word():
    with pytest.raises(NetworkError, match=r"^bank 0, layer 'mix': weight \(0, 1, 0, 0\) is unused and has no word$"):
        write_word(NET, 0, MIX, (0, 1, 0, 0))


@given(recipes())
def test_every_used_weight_has_a_word_that_reads_back(recipe):
    net = random_network(recipe)
    for bank, entry in enumerate(net.banks):
        for layer, memory in enumerate(entry.layers):
            if memory is None:
                continue
            layout = word_format(net, layer)
            for place in [tuple(place) for place in np.argwhere(memory.owner != UNUSED)[:20]]:
                word = write_word(net, bank, layer, place)
                assert layout.read(word) == (bank, memory.owner[place], memory.code[place])
