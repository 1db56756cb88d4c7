"""Sections: what the runtime reads, a task or the shared weights of a bank in each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from export.c_code.records import DIGEST_BYTES, BankSection, Seals, Stored, bank_section, task_section
from export.c_code.scratch import plan
from export.c_code.weights import Optimize, SharedWords, WeightList, shared_words, weight_list
from tsn_hw.core import artifact
from tsn_hw.core.layers import Weighted
from tsn_hw.core.network import PackedNetwork


@dataclass(frozen=True)
class Choice:
    """How the weights of a layer lie in flash, and the bytes that this takes for all of its tasks in a bank."""

    layer: str
    bank: int
    layout: str
    size_bytes: int
    other_bytes: int


@dataclass(frozen=True, eq=False)
class Sections:
    """The bytes of a network: a section a task, then those of the banks that share words, by number of the bank.

    stored: weights by index of their layer, a mapping a task. scratch_bytes: of the tensors of a task, at most.
    most_logits: that buffers of the network have room for.
    """

    tasks: tuple[bytes, ...]
    stored: tuple[Mapping[int, Stored], ...]
    banks: Mapping[int, BankSection]
    choices: tuple[Choice, ...]
    scratch_bytes: int
    most_logits: int

    @property
    def all(self) -> tuple[bytes, ...]:
        """All sections, as they are numbered."""
        return (*self.tasks, *(bank.data for bank in self.banks.values()))

    @property
    def flash_bytes(self) -> int:
        """Bytes of all constants."""
        return sum(map(len, self.all))


def sections(net: PackedNetwork, optimize: Optimize, max_classes: int = 1) -> Sections:
    """The sections of a network; ExportError where this back end does not compute a layer."""
    lists = {(t, i): weight_list(net.weights(t, i), optimize) for t in range(len(net.tasks)) for i in weighted(net, t)}
    choices, shared = _choose(net, lists, optimize)
    banks = _bank_sections(net, shared)
    digests, tasks, all_stored = chain(net), [], []
    for task, entry in enumerate(net.tasks):
        bank = banks.get(entry.bank)
        stored: dict[int, Stored] = {}
        for index in weighted(net, task):
            words = bank.words.get(net.layers[index].name) if bank is not None else None
            listed = Stored(lists[task, index])
            stored[index] = listed if words is None else Stored(None, net.mask(task, index), words)
        seals = Seals(digests[task], digests[task + 1], network_digest(net) if task == len(net.tasks) - 1 else "")
        tasks.append(task_section(net, task, stored, bank, seals))
        all_stored.append(stored)
    scratch = max(plan(net, task).size_bytes for task in range(len(net.tasks)))
    most_logits = max(max_classes, *(len(task.classes) for task in net.tasks))
    return Sections(tuple(tasks), tuple(all_stored), banks, choices, scratch, most_logits)


def weighted(net: PackedNetwork, task: int) -> list[int]:
    """Indices of the layers with weights that a task runs."""
    return [index for index, layer, _ in net.run_order(task) if isinstance(layer, Weighted)]


def chain(net: PackedNetwork) -> list[bytes]:
    """Digests of the first 0, 1, 2 ... tasks: each of the one before and of a seal, so that no later task counts."""
    seals = (bytes.fromhex(artifact.seal(net, task)) for task in range(len(net.tasks)))
    return list(accumulate(seals, _with_seal, initial=bytes(DIGEST_BYTES)))


def _with_seal(digest: bytes, seal: bytes) -> bytes:
    return hashlib.sha256(digest + seal).digest()[:DIGEST_BYTES]


def network_digest(net: PackedNetwork) -> str:
    """SHA-256 of the .tsn of a network, in hexadecimal digits."""
    return hashlib.sha256(artifact.to_bytes(net)).hexdigest()


def _choose(
    net: PackedNetwork, lists: Mapping[tuple[int, int], WeightList], optimize: Optimize
) -> tuple[tuple[Choice, ...], dict[tuple[int, int], SharedWords]]:
    """Lists or shared words for every layer of every bank: what is smaller; lists alone for speed."""
    choices, shared = [], {}
    for bank in range(len(net.banks)):
        for index in net.weighted:
            tasks = [task for task in net.bank_tasks(bank) if (task, index) in lists]
            if not tasks:
                continue
            listed = sum(lists[task, index].size_bytes for task in tasks)
            words = shared_words([(net.mask(task, index), net.weights(task, index)) for task in tasks], optimize)
            masked = words.size_bytes + len(tasks) * -(-words.entries.size // 8)
            is_shared = optimize != "speed" and masked < listed
            if is_shared:
                shared[bank, index] = words
            layout, sizes = ("shared", (masked, listed)) if is_shared else ("lists", (listed, masked))
            choices.append(Choice(net.layers[index].name, bank, layout, *sizes))
    return tuple(choices), shared


def _bank_sections(net: PackedNetwork, shared: Mapping[tuple[int, int], SharedWords]) -> dict[int, BankSection]:
    """A section for every bank that has shared words, behind those of the tasks."""
    banks = sorted({bank for bank, _ in shared})
    own = {bank: {net.layers[i].name: words for (b, i), words in shared.items() if b == bank} for bank in banks}
    return {
        bank: bank_section({name: (w.values, w.data, w.entries) for name, w in own[bank].items()}, len(net.tasks) + n)
        for n, bank in enumerate(banks)
    }
