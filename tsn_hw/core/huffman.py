"""Huffman codes of limited length: optimal code lengths, what a text takes with them, and their canonical order.

Huffman 1952; Larmore and Hirschberg 1990 (package-merge).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tsn_hw.core.arithmetic import Ints

Lengths = NDArray[np.uint8]
MAX_LENGTH = 15
"""Longest code word: a length fits 4 bits."""
RAW_BITS = 16
"""Of a symbol for which no code is long enough."""


def code_lengths(counts: Ints, limit: int = MAX_LENGTH) -> Lengths:
    """Optimal code lengths of at most ``limit`` bits (package-merge); 0 where the count is 0, 1 for a lone symbol."""
    used = np.flatnonzero(counts)
    lengths = np.zeros(len(counts), np.uint8)
    if len(used) <= 1:
        lengths[used] = 1
        return lengths
    order = used[np.argsort(counts[used], kind="stable")]
    weights = counts[order]
    # one a level, lightest first; a package joins two items of the level before
    items, is_leaf = weights, [np.ones(len(order), np.bool_)]
    for _ in range(limit - 1):
        packages = items[: len(items) // 2 * 2].reshape(-1, 2).sum(axis=1)
        places = np.arange(len(packages)) + np.searchsorted(weights, packages, side="right")
        leaves = np.ones(len(weights) + len(packages), np.bool_)
        leaves[places] = False
        merged = np.empty(len(leaves), weights.dtype)
        merged[places], merged[leaves] = packages, weights
        is_leaf.append(leaves)
        if np.array_equal(merged, items):  # and so are all levels that follow
            is_leaf += [leaves] * (limit - len(is_leaf))
            break
        items = merged
    taken = 2 * len(order) - 2
    for level in reversed(is_leaf):
        count = int(np.count_nonzero(level[:taken]))
        lengths[order[:count]] += 1
        taken = 2 * (taken - count)
    return lengths


def huffman_bits(counts: Ints) -> int:
    """Size of a Huffman text without its table: 0 for a constant one, a raw text's if no code can hold the alphabet.

    It is the sum of all nodes of Huffman's tree, unless that is deeper than a code may be. Nodes are made in the order
    of their counts, so they wait in a queue of their own.
    """
    leaves = np.sort(counts[counts > 0]).tolist()
    if len(leaves) <= 1:
        return 0
    if len(leaves) > 1 << MAX_LENGTH:
        return int(counts.sum()) * RAW_BITS
    nodes: list[int] = []
    depths: list[int] = []
    leaf = node = 0
    leaves.append(math.inf)
    for _ in range(len(leaves) - 2):
        count = depth = 0
        for _ in range(2):
            if node < len(nodes) and nodes[node] < leaves[leaf]:
                count, depth, node = count + nodes[node], max(depth, depths[node]), node + 1
            else:
                count, leaf = count + leaves[leaf], leaf + 1
        nodes.append(count)
        depths.append(depth + 1)
    return sum(nodes) if depths[-1] <= MAX_LENGTH else int((counts * code_lengths(counts)).sum())


def canonical(lengths: NDArray[np.integer]) -> tuple[list[int], NDArray[np.int64]]:
    """Number of codes of every length, and the symbols by (length, symbol): the canonical code."""
    counts = np.bincount(lengths, minlength=MAX_LENGTH + 1)
    counts[0] = 0
    return counts.tolist(), np.argsort(lengths, kind="stable")[len(lengths) - int(counts.sum()) :]
