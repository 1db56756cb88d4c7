"""The pragmas of Vitis HLS (UG1399): names, options, values, and where each may stand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Place = Literal["function", "loop", "anywhere"]

FLAG = ""
NUMBER = r"\d+|[A-Za-z_]\w*(?:::\w+)*(?:[-+*/](?:\d+|[A-Za-z_]\w*(?:::\w+)*))*"
ADDRESS = r"0x[0-9A-Fa-f]+|\d+|off|slave|direct"
NAME = r"[A-Za-z_]\w*"
MEMBER = r"[A-Za-z_]\w*(?:\.\w+)*"
SWITCH = "true|false"
_PORT_MODES = (
    "ap_none|ap_vld|ap_ack|ap_hs|ap_ovld|ap_fifo|ap_memory|bram|axis|m_axi|s_axilite"
    "|ap_ctrl_none|ap_ctrl_hs|ap_ctrl_chain"
)
_MEMORIES = "fifo|ram_1p|ram_1wnr|ram_2p|ram_s2p|ram_t2p|rom_1p|rom_2p|rom_np"


@dataclass(frozen=True)
class PragmaRule:
    """What a pragma may and must say.

    options: pattern of the value of each, :data:`FLAG` for an option without one. required: options that must be there.
    place: "loop" is inside of a loop, "function" directly in a function.
    """

    options: Mapping[str, str] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    place: Place = "anywhere"


PRAGMAS: dict[str, PragmaRule] = {
    "aggregate": PragmaRule({"variable": MEMBER, "compact": "bit|byte|none|auto"}, ("variable",)),
    "allocation": PragmaRule(
        {"operation": FLAG, "function": FLAG, "instances": NAME, "limit": NUMBER}, ("instances", "limit")
    ),
    "array_partition": PragmaRule(
        {"variable": MEMBER, "type": "cyclic|block|complete", "factor": NUMBER, "dim": NUMBER, "off": SWITCH},
        ("variable",),
    ),
    "array_reshape": PragmaRule(
        {"variable": MEMBER, "type": "cyclic|block|complete", "factor": NUMBER, "dim": NUMBER, "off": SWITCH},
        ("variable",),
    ),
    "bind_op": PragmaRule(
        {"variable": MEMBER, "op": NAME, "impl": "fabric|dsp|fulldsp|meddsp|nodsp|auto|all", "latency": NUMBER},
        ("variable", "op"),
    ),
    "bind_storage": PragmaRule(
        {
            "variable": MEMBER,
            "type": _MEMORIES,
            "impl": "bram|bram_ecc|lutram|uram|uram_ecc|srl|memory|auto",
            "latency": NUMBER,
        },
        ("variable", "type"),
    ),
    "dataflow": PragmaRule({"disable_start_propagation": FLAG}),
    "dependence": PragmaRule(
        {
            "variable": MEMBER,
            "class": "array|pointer",
            "type": "intra|inter",
            "direction": "raw|war|waw",
            "distance": NUMBER,
            "dependent": SWITCH,
        }
    ),
    "disaggregate": PragmaRule({"variable": MEMBER}, ("variable",)),
    "expression_balance": PragmaRule({"off": FLAG}),
    "function_instantiate": PragmaRule({"variable": MEMBER}, ("variable",)),
    "inline": PragmaRule({"off": FLAG, "recursive": FLAG}, place="function"),
    "interface": PragmaRule(
        {
            "mode": _PORT_MODES,
            "port": NAME,
            "bundle": NAME,
            "register": FLAG,
            "register_mode": "both|forward|reverse|off",
            "depth": NUMBER,
            "offset": ADDRESS,
            "latency": NUMBER,
            "name": NAME,
            "storage_type": _MEMORIES,
            "max_widen_bitwidth": NUMBER,
        },
        ("mode", "port"),
        place="function",
    ),
    "latency": PragmaRule({"min": NUMBER, "max": NUMBER}),
    "loop_flatten": PragmaRule({"off": FLAG}, place="loop"),
    "loop_merge": PragmaRule({"force": FLAG}),
    "loop_tripcount": PragmaRule({"min": NUMBER, "max": NUMBER, "avg": NUMBER}, place="loop"),
    "occurrence": PragmaRule({"cycle": NUMBER}),
    "pipeline": PragmaRule({"ii": NUMBER, "off": FLAG, "rewind": FLAG, "style": "stp|frp|flp"}),
    "protocol": PragmaRule({"mode": "floating|fixed"}),
    "reset": PragmaRule({"variable": MEMBER, "off": FLAG}, ("variable",)),
    "stable": PragmaRule({"variable": MEMBER}, ("variable",)),
    "stream": PragmaRule(
        {"variable": MEMBER, "type": "fifo|pipo|shared|unsync", "depth": NUMBER, "off": FLAG}, ("variable",)
    ),
    "top": PragmaRule({"name": NAME}, place="function"),
    "unroll": PragmaRule({"factor": NUMBER, "skip_exit_check": FLAG, "off": SWITCH}, place="loop"),
}


def pragma_options(text: str) -> list[tuple[str, str]]:
    """Options of a pragma behind its name, as written: name and value, FLAG where there is none.

    >>> pragma_options("variable = x type=complete rewind")
    [('variable', 'x'), ('type', 'complete'), ('rewind', '')]
    """
    pairs = (option.partition("=") for option in re.sub(r"\s*=\s*", "=", text).split())
    return [(name, value) for name, _, value in pairs]
