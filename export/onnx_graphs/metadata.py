"""What a graph tells of itself: enough to quantize an input, read a logit, and check a file.

``metadata_props`` have one key, ``tsn_hw``. Its value is JSON:

* format: version of all this.  task: its name.  classes: names, in the order of the logits.
* input: bits, signed, exponent; real value = integer * 2**exponent.
* image: how a picture becomes an input, where it can: mode of its pixels (L, RGB), size (height, width) that it is
  resized to, the filter that training resized with, the layout of the input. A pixel of 0..255 has the real value
  pixel / 256.
* output: exponent of the logits, null where they have a scale of their own.
* layers: lists with an entry a layer that computes, in order, null where it has none: name; form of its computation;
  the largest magnitudes that it was chosen for ("accumulator", with offset and multiplier "bound"); bits of its output;
  bits of its codes, a list where they have levels; the digest of its words in ``banks.bin``.
* network: the first :data:`TASK_LETTERS` of the seal of every task up to this one: files of one network begin alike.
* golden: the digest of the logits of :func:`golden_inputs`, as the int64 loops give them.
* sha256: of the whole file with this digest replaced by 43 letters A and a =.

All digests are SHA-256 in base64, but for sha256 only its first :data:`DIGEST_LETTERS`: they find damage, not forgers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from tsn_hw.core import artifact
from tsn_hw.core.arithmetic import ActFormat, Ints
from tsn_hw.core.errors import ArtifactError
from tsn_hw.core.layers import Shape, Weighted
from tsn_hw.core.network import PackedNetwork
from tsn_hw.core.records import parse_json

FORMAT_VERSION = 5
"""Version of the graphs: names of tensors, functions and metadata."""
KEY = "tsn_hw"
MODES = {1: "L", 3: "RGB"}
"""Channels of an input -> what Pillow calls such pixels."""
GOLDEN_INPUTS = 8
DIGEST_LETTERS = 12
TASK_LETTERS = 8
_UNSEALED = "A" * 43 + "="


def metadata(
    net: PackedNetwork, task: int, layers: list[dict[str, object]], others: dict[str, object] | None = None
) -> dict[str, str]:
    """All that is known before the graph has run; ``others`` are told besides or instead."""
    form = net.input
    values = {
        "format": FORMAT_VERSION,
        "task": net.tasks[task].name,
        "classes": net.tasks[task].classes,
        "input": {"bits": form.bits, "signed": form.signed, "exponent": form.exponent},
        "output": {"exponent": logit_exponent(net, task)},
        "layers": {key: [layer.get(key) for layer in layers] for key in dict.fromkeys(chain(*layers))},
    }
    if len(net.input_shape) == 3 and net.input_shape[0] in MODES:
        channels, *size = net.input_shape
        values["image"] = {"mode": MODES[channels], "size": size, "resize": "bilinear", "layout": "CHW"}
    return {KEY: _json(values | (others or {}))}


@dataclass(frozen=True)
class Picture:
    """How a picture becomes an input."""

    mode: Literal["L", "RGB"]
    size: tuple[int, int]
    resize: Literal["bilinear"]
    layout: Literal["CHW"]


@dataclass(frozen=True)
class Output:
    """Real logit = integer * 2**exponent; None where the logits have a scale of their own."""

    exponent: int | None


@dataclass(frozen=True)
class Layers:
    """Lists with an entry a layer; what only people read is not checked."""

    name: tuple[str, ...]
    words: tuple[str | None, ...] = ()
    form: Any = None
    accumulator: Any = None
    bound: Any = None
    bits: Any = None
    code_bits: Any = None


@dataclass(frozen=True)
class Metadata:
    """What a whole file tells, see the module's docstring."""

    format: int
    task: str
    classes: tuple[str, ...]
    input: ActFormat
    output: Output
    layers: Layers
    network: str
    golden: str
    sha256: str
    image: Picture | None = None


def properties(model: onnx.ModelProto) -> dict[str, Any]:
    """What a model of ours tells; nothing where it is none."""
    texts = [entry.value for entry in model.metadata_props if entry.key == KEY]
    try:
        told = parse_json(texts[0], KEY, ArtifactError) if texts else {}
    except ArtifactError:  # damaged, or somebody else's
        return {}
    return told if isinstance(told, dict) else {}


def golden_inputs(shape: Shape, form: ActFormat, count: int = GOLDEN_INPUTS) -> Ints:
    """Integers of an input format, (count, *shape), that any language makes in four lines.

    Element i, counted over all inputs, is ``low + mix(i) % (high - low + 1)``, where ``mix`` is the 32-bit finalizer
    of MurmurHash3.

    >>> golden_inputs((4,), ActFormat(8, False, 0), count=2).tolist()
    [[0, 183, 6, 39], [133, 205, 8, 196]]
    """
    low, high = form.range
    mixed = np.arange(count * math.prod(shape), dtype=np.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = (mixed ^ (mixed >> np.uint32(shift))) * np.uint32(factor)
    mixed ^= mixed >> np.uint32(16)
    return low + mixed.astype(np.int64).reshape(count, *shape) % (high - low + 1)


def logits_digest(logits: NDArray[np.integer]) -> str:
    """Digest of logits, (inputs, classes), as 32-bit little-endian integers."""
    return digest(logits.astype("<i4").tobytes())[:DIGEST_LETTERS]


def network_digests(net: PackedNetwork) -> str:
    """The ``network`` of the last task's metadata; that of an earlier one is its beginning."""
    seals = (bytes.fromhex(artifact.seal(net, task)) for task in range(len(net.tasks)))
    return "".join(base64.b64encode(seal).decode()[:TASK_LETTERS] for seal in seals)


def sealed(model: onnx.ModelProto, told: dict[str, str]) -> bytes:
    """The content of the file of a model, with what else it tells, and its own digest."""
    helper.set_model_props(model, {KEY: _json(properties(model) | told | {"sha256": _UNSEALED})})
    content = bytes(model.SerializeToString(deterministic=True))
    head, _, tail = content.rpartition(_UNSEALED.encode())
    return head + digest(content).encode() + tail


def is_sealed(content: bytes, seal: str) -> bool:
    """Whether a file is what it was when its digest was taken."""
    if len(seal) != len(_UNSEALED):
        return False
    head, _, tail = content.rpartition(seal.encode())
    return digest(head + _UNSEALED.encode() + tail) == seal


def digest(content: bytes) -> str:
    """SHA-256 in base64.

    >>> digest(b"")
    '47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='
    """
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def logit_exponent(net: PackedNetwork, task: int) -> int | None:
    """Logits are sums of products, scaled by 2**-shift; a multiplier hides a scale that the network does not know."""
    head = net.head(task)
    layer, requantization = net.layers[head], net.requantization(task, head)
    if (requantization.multiplier != 1).any():
        return None
    weights = net.words(task, head).exponent if isinstance(layer, Weighted) else 0
    return min(net.format(task, source).exponent for source in layer.inputs) + weights + requantization.shift


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
