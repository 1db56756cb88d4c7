"""Networks that begin alike share the results of the layers in which they do: each result is computed once.

A result is named by everything that it depends on: the input integers and, for every layer up to it, geometry, words
under the mask with their codebooks, and requantization. What has the same name has the same integers, whatever network,
task or bank asks.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sim.borrowed import exact_floats
from sim.integer import Int32s, Simulator
from sim.kernels import input_tensor
from tsn_hw.core.layers import INPUT
from tsn_hw.core.network import UNUSED, PackedNetwork

Name = bytes


class PrefixCache:
    """Results of layers, at most ``limit_bytes`` of them: the ones that were not used for longest go first.

    ``found`` and ``computed`` count the layers of all calls.
    """

    def __init__(self, limit_bytes: int = 2**28) -> None:
        self.limit_bytes, self.size_bytes = limit_bytes, 0
        self.found = self.computed = 0
        self._results: OrderedDict[Name, Tensor] = OrderedDict()

    def logits(self, runs: Sequence[tuple[Simulator, ArrayLike]]) -> list[Int32s]:
        """What ``simulator(x)`` gives for every run, of equally large networks on equally many inputs.

        All networks see one batch before any sees the next, so little is kept at a time.
        """
        layers = [_layer_digests(simulator.net, simulator.task) for simulator, _ in runs]
        batches = zip(*(simulator.chunks(x) for simulator, x in runs), strict=True)
        logits = [
            [self._batch(run[0], digests, x) for run, digests, x in zip(runs, layers, batch, strict=True)]
            for batch in batches
        ]
        return [np.concatenate(of_one) for of_one in zip(*logits, strict=True)]

    def _batch(self, simulator: Simulator, layers: dict[int, Name], x: NDArray[np.integer]) -> Int32s:
        names = _names(simulator.net, layers, x)
        stages = {stage.output: stage for stage in simulator.program.stages}
        values = {INPUT: input_tensor(x)}

        def value(index: int) -> Tensor:
            if index not in values:
                result = self._recall(names[index])
                if result is None:
                    stage = stages[index]
                    result = stage.run(*(value(source) for source in stage.inputs))
                    self._keep(names[index], result)
                values[index] = result
            return values[index]

        with exact_floats():
            logits: Int32s = value(simulator.net.head(simulator.task)).numpy().astype(np.int32)
            return logits

    def _recall(self, name: Name) -> Tensor | None:
        result = self._results.get(name)
        if result is None:
            self.computed += 1
            return None
        self.found += 1
        self._results.move_to_end(name)
        return result

    def _keep(self, name: Name, result: Tensor) -> None:
        self._results[name] = result
        self.size_bytes += result.nbytes
        while self.size_bytes > self.limit_bytes:
            _, dropped = self._results.popitem(last=False)
            self.size_bytes -= dropped.nbytes


def _layer_digests(net: PackedNetwork, task: int) -> dict[int, Name]:
    """SHA-256 of what every layer of a task computes, whatever its name and its inputs."""
    owners = net.bank_tasks(net.tasks[task].bank).index(task) + 1  # later ones own nothing that it reads
    digests = {}
    for index, layer, step in net.run_order(task):
        formats = [net.format(task, source) for source in layer.inputs]
        geometry = {key: value for key, value in vars(layer).items() if key not in ("name", "inputs")}
        digest = hashlib.sha256(repr((type(layer), geometry, formats)).encode())
        if step.mask is not None:
            words = net.words(task, index)
            digest.update(repr([book.tolist() for book in words.codebooks[:owners]]).encode())
            digest.update(np.where(step.mask, words.owner, UNUSED).astype("<i2").tobytes())
            digest.update(np.where(step.mask, words.code, 0).astype(np.uint8).tobytes())
        scale = step.requantization
        if scale is not None:
            digest.update(repr((scale.multiplier.tolist(), scale.offset.tolist(), scale.shift, scale.output)).encode())
        digests[index] = digest.digest()
    return digests


def _names(net: PackedNetwork, layers: dict[int, Name], x: NDArray[np.integer]) -> dict[int, Name]:
    """The name of the result of every layer for a batch of input integers."""
    names = {INPUT: hashlib.sha256(repr((x.dtype.str, x.shape)).encode() + x.tobytes()).digest()}
    for index, digest in layers.items():
        names[index] = hashlib.sha256(digest + b"".join(names[source] for source in net.layers[index].inputs)).digest()
    return names
