"""The words of a network's weights, as docs/word-format.md writes them."""

from tsn_hw.core.errors import NetworkError
from tsn_hw.core.memory import WordFormat
from tsn_hw.core.network import UNUSED, PackedNetwork, code_bits


def word_format(net: PackedNetwork, layer: int) -> WordFormat:
    """How the words of a layer are written in this network."""
    return WordFormat(
        tuple(
            tuple(code_bits(book) for book in words.codebooks) if words else (0,) * len(net.bank_tasks(bank))
            for bank, words in enumerate(entry.layers[layer] for entry in net.banks)
        )
    )


def write_word(net: PackedNetwork, bank: int, layer: int, place: tuple[int, ...]) -> str:
    """The word of one weight.

    ``place``: index of the weight, (out, in) or (out, in / groups, row, column).
    """
    words = net.banks[bank].layers[layer]
    if words is None or words.owner[place] == UNUSED:
        raise NetworkError(f"bank {bank}, layer {net.layers[layer].name!r}: weight {place} is unused and has no word")
    return word_format(net, layer).write(bank, int(words.owner[place]), int(words.code[place]))
