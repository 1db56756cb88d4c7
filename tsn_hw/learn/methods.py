"""How methods of continual learning choose the weights of a task: variations of one loop, compared by one switch.

    tsn           TinySubNets: the largest scores, of free and of owned weights alike; kept as codes
    wsn           Winning SubNetworks (Kang et al., ICML 2022): the same choice; kept as float32
    packnet       PackNet (Mallya and Lazebnik, CVPR 2018): the largest free weights, and all owned ones; float32
    ada_qpacknet  Ada-QPacknet (Pietron et al., 2023): the largest free weights, and no owned ones; kept as codes
    finetune      all weights, never frozen: what forgetting costs; float32

The last four are likenesses: they differ from ``tsn`` in the choice and the storage of weights alone, and share
optimiser, schedule, batches, private biases, norms and heads with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Method:
    """What distinguishes one method.

    ranking: what the mask follows; borrowed: owned weights that a task reads; codes: committed weights are codes,
    not float32; frozen: committed weights do not change any more.
    """

    ranking: Literal["score", "weight"]
    borrowed: Literal["chosen", "all", "none"]
    codes: bool
    frozen: bool = True


METHODS = {
    "tsn": Method("score", "chosen", codes=True),
    "wsn": Method("score", "chosen", codes=False),
    "packnet": Method("weight", "all", codes=False),
    "ada_qpacknet": Method("weight", "none", codes=True),
    "finetune": Method("weight", "chosen", codes=False, frozen=False),
}
TSN = METHODS["tsn"]
