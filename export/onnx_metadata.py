"""What a graph tells of itself in ``metadata_props``: enough to quantize an input, read a logit, and check a file.

Keys start with ``tsn_hw.``; values but "format", "task" and "sha256" are JSON.

* format: version of all this.  task: its name.  classes: names, in the order of the logits.
* input: shape, bits, signed, exponent; real value = integer * 2**exponent.
* output: exponent of the logits, null where they have a scale of their own.
* layers: lists with an entry a layer, in order, null where it has none: name, kind, form and carrier of its
  computation, the bounds that prove it exact ("accumulator", with offset and multiplier "bound"), bits of its output
  and of its codes, survivors, and the digest of its words in ``banks.bin``.
* golden: the digest of the logits of :func:`golden_inputs`.
* sha256: of the whole file with these 64 digits replaced by zeros.
"""

from __future__ import annotations

import hashlib
import json
import math
from itertools import chain

import numpy as np
import onnx
from numpy.typing import NDArray

from tsn_hw.arithmetic import ActFormat, Ints
from tsn_hw.layers import Shape, Weighted
from tsn_hw.network import PackedNetwork

FORMAT_VERSION = "2"
"""Version of the graphs: names of tensors, functions and ``metadata_props``."""
GOLDEN_INPUTS = 8
_UNSEALED = "0" * 64


def metadata(net: PackedNetwork, task: int, layers: list[dict[str, object]]) -> dict[str, str]:
    """All that is known before the graph has run."""
    form = net.input
    described = {"shape": net.input_shape, "bits": form.bits, "signed": form.signed, "exponent": form.exponent}
    values = {
        "classes": net.tasks[task].classes,
        "input": described,
        "output": {"exponent": logit_exponent(net, task)},
        "layers": {key: [layer.get(key) for layer in layers] for key in dict.fromkeys(chain(*layers))},
    }
    texts = {"format": FORMAT_VERSION, "task": net.tasks[task].name}
    texts |= {name: json.dumps(value, separators=(",", ":")) for name, value in values.items()}
    return {f"tsn_hw.{name}": text for name, text in texts.items()}


def properties(model: onnx.ModelProto) -> dict[str, str]:
    """The properties of a model of ours, without the prefix of their keys."""
    return {p.key.removeprefix("tsn_hw."): p.value for p in model.metadata_props if p.key.startswith("tsn_hw.")}


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


def logits_digest(logits: NDArray[np.int32]) -> str:
    """SHA-256 of logits, (inputs, classes), as 32-bit little-endian integers."""
    return hashlib.sha256(logits.astype("<i4").tobytes()).hexdigest()


def sealed(model: onnx.ModelProto, golden: str) -> bytes:
    """The content of the file of a model, with the digest of its golden logits and its own."""
    model.metadata_props.add(key="tsn_hw.golden", value=json.dumps(golden))
    model.metadata_props.add(key="tsn_hw.sha256", value=_UNSEALED)
    content = bytes(model.SerializeToString(deterministic=True))
    head, _, tail = content.rpartition(_UNSEALED.encode())
    return head + hashlib.sha256(content).hexdigest().encode() + tail


def is_sealed(content: bytes, digest: str) -> bool:
    """Whether a file is what it was when its digest was taken."""
    if len(digest) != len(_UNSEALED):
        return False
    head, _, tail = content.rpartition(digest.encode())
    return hashlib.sha256(head + _UNSEALED.encode() + tail).hexdigest() == digest


def logit_exponent(net: PackedNetwork, task: int) -> int | None:
    """Logits are sums of products, scaled by 2**-shift; a multiplier hides a scale that the network does not know."""
    head = net.head(task)
    layer, requantization = net.layers[head], net.step(task, head).requantization
    assert requantization is not None  # checked at birth
    if (requantization.multiplier != 1).any():
        return None
    weights = net.words(task, head).exponent if isinstance(layer, Weighted) else 0
    return min(net.format(task, source).exponent for source in layer.inputs) + weights + requantization.shift
