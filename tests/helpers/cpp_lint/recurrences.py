"""How long a step of a pipelined loop must wait for the one before: an estimate of II from LLVM IR and operator delays.

A value that a step hands to the next (a phi of the loop's head) closes a cycle through the operators that compute it.
The mean delay of the slowest cycle, over the time that a clock leaves, is an estimate of the least II. Memories are not
in it: they have pragmas of their own. Delays are those of 7 series, of operators as wide as what is known of their
values and needed of their results; calls, such as reads of streams, begin a value anew.
"""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

BUDGET_NS = 7.3
"""Of a clock of 10 ns, less the 27 % that Vitis HLS keeps."""
ADD_NS = {2: 1.58, 4: 1.73, 5: 1.86, 7: 2.03, 12: 2.03, 16: 2.07, 24: 2.31, 32: 2.55, 64: 3.52}
COMPARE_NS = {1: 0.94, 3: 1.18, 4: 1.44, 8: 1.47, 10: 1.7, 12: 1.92, 14: 2.15, 16: 2.38, 32: 2.43, 64: 2.83}
SELECT_NS, LOGIC_NS, MULTIPLY_NS, OTHER_NS = 0.7, 0.94, 2.55, 1.0
FREE = ("zext", "sext", "trunc", "shl", "lshr", "ashr", "freeze", "getelementptr", "bitcast")
BEGINS = ("load", "call", "tail", "alloca")
VALUE = re.compile(r"%[\w.]+")


@dataclass(frozen=True)
class Value:
    """A value: the block that computes it, its operator, and what stands behind."""

    block: str
    operator: str
    text: str

    @cached_property
    def operands(self) -> list[str]:
        return VALUE.findall(self.text)

    @cached_property
    def constants(self) -> list[int]:
        return [int(number) for number in re.findall(r"[ \[](-?\d+)(?=$|,| )", self.text)]

    @cached_property
    def bits(self) -> int:
        """Of its type; of a comparison those of what it compares."""
        found = re.findall(r"\bi(\d+)\b", self.text)
        return int(found[0 if self.operator in BEGINS else -1]) if found else 64


@dataclass(frozen=True)
class Function:
    """A function: its values, and the terminator of every block, the first block first."""

    name: str
    values: dict[str, Value]
    ends: dict[str, str]

    @cached_property
    def before(self) -> dict[str, list[str]]:
        """Block -> the blocks that go there."""
        found: dict[str, list[str]] = {block: [] for block in self.ends}
        for block, end in self.ends.items():
            for target in re.findall(r"label (%[\w.]+)", end):
                found[target].append(block)
        return found

    @cached_property
    def dominators(self) -> dict[str, set[str]]:
        every, first = set(self.ends), next(iter(self.ends))
        found = {block: {block} if block == first else set(every) for block in self.ends}
        while True:
            new = {
                b: {b} | (set.intersection(*(found[p] for p in self.before[b])) if self.before[b] else set())
                for b in self.ends
            }
            if new == found:
                return found
            found = new

    @cached_property
    def loops(self) -> list[tuple[str, str, set[str]]]:
        """Head, last block and blocks of every loop that holds no other."""
        backs = [(b, h) for h in self.ends for b in self.before[h] if h in self.dominators[b]]
        found = []
        for last, head in backs:
            blocks, to_do = {head}, [last]
            while to_do:
                block = to_do.pop()
                if block not in blocks:
                    blocks.add(block)
                    to_do += self.before[block]
            found.append((head, last, blocks))
        return [one for one in found if not any(other[0] != one[0] and other[0] in one[2] for other in found)]

    @cached_property
    def known(self) -> dict[str, int]:
        """Bits that a value may have at most, as far as masks and types tell."""
        found = dict.fromkeys(self.values, 0)
        while True:
            new = {name: min(value.bits, _known(value, found)) for name, value in self.values.items()}
            if new == found:
                return found
            found = new

    @cached_property
    def needed(self) -> dict[str, int]:
        """Bits of a value that those who use it need."""
        found = dict.fromkeys(self.values, 0)
        while True:
            new = dict.fromkeys(self.values, 0)
            for name, value in self.values.items():
                for operand in value.operands:
                    if operand in new:
                        new[operand] = max(new[operand], _needed(value, found[name]))
            for end in self.ends.values():
                for operand in VALUE.findall(end):
                    if operand in new:
                        new[operand] = 64
            if new == found:
                return found
            found = new

    def delay(self, name: str) -> float:
        """Of the operator that computes a value."""
        value = self.values[name]
        operator = value.operator
        if operator in FREE or (operator in ("and", "or") and value.constants):
            return 0
        if operator in ("add", "sub"):
            return _of_width(ADD_NS, min(value.bits, self.known[name], self.needed[name]))
        if operator == "icmp":
            widths = [self.known.get(operand, value.bits) for operand in value.operands]
            return _of_width(COMPARE_NS, max([*widths, *(abs(c).bit_length() for c in value.constants)]))
        fixed = {"select": SELECT_NS, "phi": SELECT_NS, "and": LOGIC_NS, "or": LOGIC_NS, "xor": LOGIC_NS}
        return fixed.get(operator, MULTIPLY_NS if operator == "mul" else OTHER_NS)


def _known(value: Value, of: dict[str, int]) -> int:
    own = [of.get(operand, value.bits) for operand in value.operands]
    widest = max([*own, *(abs(c).bit_length() + (c < 0) for c in value.constants)], default=value.bits)
    match value.operator:
        case "icmp":
            return 1
        case "phi" | "select":
            return widest
        case "zext" | "sext":
            return own[0] if own else value.bits
        case "trunc":
            return min(own[0], int(value.text.rsplit("i", 1)[1]))
        case "and" if value.constants and value.constants[-1] >= 0:
            return min(own[0], value.constants[-1].bit_length())
        case "and" | "or" | "xor":
            return widest
        case "lshr" | "ashr" if value.constants:
            return value.bits - value.constants[-1]
        case "add" | "sub":
            return widest + 1
    return value.bits


def _needed(user: Value, of_user: int) -> int:
    """Bits of its operands that a value needs, of which so many are needed."""
    match user.operator:
        case "trunc":
            return int(user.text.rsplit("i", 1)[1])
        case "and" if user.constants and user.constants[-1] >= 0:
            return min(of_user, user.constants[-1].bit_length())
        case "shl" if user.constants:
            return max(0, of_user - user.constants[-1])
        case "lshr" | "ashr" if user.constants:
            return min(user.bits, of_user + user.constants[-1])
        case "phi" | "select" | "add" | "sub" | "and" | "or" | "xor" | "zext" | "sext" | "freeze":
            return of_user
    return 64


def _of_width(delays: dict[int, float], bits: int) -> float:
    return delays[min(width for width in delays if width >= min(64, bits))]


FLAGS = (
    "-std=c++17", "-D__SYNTHESIS__", "-O2", "-fno-vectorize", "-fno-slp-vectorize", "-fno-exceptions",
    "-Wno-unknown-pragmas", "-S", "-emit-llvm", "-o", "-",
)  # fmt: skip
AS_HLS = ("inline-threshold=1000000", "unroll-threshold=1000000", "unroll-runtime=0", "unroll-allow-partial=0",
          "unroll-full-max-count=16")  # fmt: skip
"""Everything in one function, and short loops unrolled, those inside of pipelined ones."""


def compiled_loops(source: str, includes: Sequence[str]) -> list[float]:
    """:func:`carried_ns` of every innermost loop of a source file, by clang."""
    options = [part for option in AS_HLS for part in ("-mllvm", f"-{option}")]
    command = ["clang++", *FLAGS, *options, *(f"-I{folder}" for folder in includes), source]
    ir = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [carried_ns(function, *loop) for function in functions(ir) for loop in function.loops]


def functions(ir: str) -> list[Function]:
    """The functions that a module of LLVM IR defines."""
    found = []
    for match in re.finditer(r"^define[^\n]*?@([\w.]+)\([^\n]*\{\n(.*?)^\}", ir, re.MULTILINE | re.DOTALL):
        block, values, ends = "%entry", dict[str, Value](), dict[str, str]()
        body = re.sub(r"\[\n.*?\]", lambda cases: cases[0].replace("\n", " "), match[2], flags=re.DOTALL)  # of a switch
        for line in body.splitlines():
            if label := re.match(r"([\w.]+):", line):
                block = f"%{label[1]}"
            elif made := re.match(r"  (%[\w.]+) = (?:tail )?(\w+)(.*?)(?:, !.*)?$", line):
                values[made[1]] = Value(block, made[2], made[3])
            elif line.startswith(("  br ", "  ret ", "  switch ", "  unreachable")):
                ends[block] = line
        found.append(Function(match[1], values, ends))
    return found


def carried_ns(function: Function, head: str, last: str, blocks: set[str]) -> float:
    """The mean delay, over steps, of the slowest cycle through what the steps of a loop hand on."""
    values = function.values
    phis = [name for name, value in values.items() if value.block == head and value.operator == "phi"]
    edges: dict[tuple[str, str], float] = {}
    for source in phis:
        reached = _reached(function, source, head, blocks)
        for target in phis:
            given = re.search(r"\[ (%[\w.]+), " + re.escape(last) + r" \]", values[target].text)
            if given and given[1] in reached:
                edges[source, target] = reached[given[1]]
    return _slowest_mean(phis, edges)


def _reached(function: Function, source: str, head: str, blocks: set[str]) -> dict[str, float]:
    """Values of a step that depend on one of the step before -> the longest way there."""
    found = {source: 0.0}
    decided = {block: _conditions(function, block, blocks) for block in blocks - {head}}
    for name, value in function.values.items():  # in the order of blocks
        if value.block not in blocks or (value.block == head and value.operator == "phi"):
            continue
        if value.operator in BEGINS:
            continue
        operands = [*value.operands, *(decided[value.block] if value.operator == "phi" else ())]
        ways = [found[operand] for operand in operands if operand in found]
        if ways:
            found[name] = max(ways) + function.delay(name)
    return found


def _conditions(function: Function, block: str, blocks: set[str]) -> set[str]:
    """What decides, inside of a loop, through which block the way to another one goes."""
    inside = [d for d in function.dominators[block] - {block} if d in blocks]
    stop = max(inside, key=lambda d: len(function.dominators[d]), default=None)
    between, to_do = set[str](), list(function.before[block])
    while to_do:
        one = to_do.pop()
        if one in blocks and one not in between:
            between.add(one)
            to_do += function.before[one] if one != stop else []
    enters: dict[str, frozenset[str]] = {}

    def entered(one: str) -> frozenset[str]:
        """The blocks through which ``block`` can be entered from there."""
        if one not in enters:
            after = [t for t in re.findall(r"label (%[\w.]+)", function.ends[one]) if t in between]
            own = frozenset([one]) if one in function.before[block] else frozenset[str]()
            enters[one] = own.union(*map(entered, after))
        return enters[one]

    found = set[str]()
    for one in between:
        ways = {
            frozenset([one]) if target == block else entered(target)
            for target in re.findall(r"label (%[\w.]+)", function.ends[one])
            if target == block or target in between
        }
        decided = re.match(r"  (?:br i1|switch i\d+) (%[\w.]+),", function.ends[one])
        if decided and len(ways) > 1:
            found.add(decided[1])
    return found


def _slowest_mean(nodes: list[str], edges: dict[tuple[str, str], float]) -> float:
    """The largest mean weight of a cycle (Karp 1978)."""
    best = [dict.fromkeys(nodes, 0.0)]
    for _ in nodes:
        longer: dict[str, float] = {}
        for (source, target), weight in edges.items():
            if source in best[-1]:
                longer[target] = max(longer.get(target, -math.inf), best[-1][source] + weight)
        best.append(longer)
    count = len(nodes)
    means = [
        min((best[count][node] - before[node]) / (count - k) for k, before in enumerate(best[:count]) if node in before)
        for node in best[count]
    ]
    return max(means, default=0.0)
