"""A body from a torch module: traced, and read operator by operator into the layers that it is made of.

A ReLU, a bias and a batch norm belong to the layer in front of them; what does nothing at inference (Dropout, a Softmax
at the end, the quantizers of Brevitas) becomes nothing. All that has no counterpart is told at once.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from tsn_hw.core.errors import BodyError, NetworkError, TsnError
from tsn_hw.learn.architectures import Architecture
from tsn_hw.learn.baselines import DenseModel
from tsn_hw.learn.imported import Draft, Window
from tsn_hw.learn.module_graph import trace
from tsn_hw.learn.module_operators import (
    ADVICE,
    AVERAGES,
    BATCH_NORMS,
    CONVOLUTIONS,
    LAST,
    METHODS,
    NOTHING,
    POOLS,
    SUPPORTED,
    advice_for,
    as_module,
    figure,
    is_known,
    quantizers_off,
)

TOLERANCE = 1e-3
"""Largest difference of logits from the module's, as a share of the largest logit: float sums in another order."""


def body(module: nn.Module, example_input: Tensor, *, pretrained: bool = False, head: bool = True) -> Architecture:
    """The body of a torch module, for inputs like this batch (N, ...).

    The last Linear is the head, which every task has of its own, and is left out; with ``head=False`` the module gives
    features and is the body as it is. ``pretrained`` takes the weights along, for the float network of the body.
    Signals (N, channels, steps) become images of height 1.

    Raises BodyError with all that has no counterpart, by module path, or if the body computes anything else than the
    module does in evaluation mode, its quantizers switched off.
    """
    if not isinstance(example_input, Tensor) or example_input.dim() not in (2, 3, 4) or not len(example_input):
        raise BodyError(
            "example_input: must be a batch of inputs, a tensor (N, features), (N, channels, steps) or "
            "(N, channels, height, width)"
        )
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with quantizers_off(module):
            made, expected = _Reader(module, example_input).read(head)
    finally:
        for part in training:
            part.training = True
    _check_equal(made, example_input, expected)
    return made if pretrained else replace(made, weights={})


@torch.no_grad()
def _check_equal(made: Architecture, x: Tensor, expected: Tensor) -> None:
    """Refuse a body that does not compute what the module does."""
    model = DenseModel.of(made).to(x.device).eval()
    given = model.features(x.to(torch.float32).reshape(len(x), *made.input_shape))
    given = model.head(given) if "head.weight" in made.weights else given
    largest = float((given - expected.reshape(given.shape)).abs().max())
    if not largest <= TOLERANCE * max(1.0, float(expected.abs().max())):
        raise BodyError(
            f"the module computes something else than its layers say (up to {largest:.3g} apart): does it change its "
            "tensors in place, or by hooks?"
        )


class _Reader:
    """Follows tensors through a graph: ``names`` maps nodes to the layer that gives them, None where none is known.

    ``origin`` is the node that another passes on, perhaps with some of its values or in another shape.
    """

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        self.module, self.example, self.draft = module, example, Draft()
        self.problems: list[str] = []
        self.names: dict[fx.Node, str | None] = {}
        self.origin: dict[fx.Node, fx.Node] = {}
        self.constants: set[fx.Node] = set()
        self.known: dict[fx.Node, Any] = {}
        self.calls: Counter[str] = Counter()
        self.expected: Any = None

    def read(self, head: bool) -> tuple[Architecture, Tensor]:
        """The body, and what the module gives for the example, in front of a Softmax at the end."""
        traced = trace(self.module, self.example)
        self.problems, self.known, self.expected = traced.problems, traced.known, traced.result
        for node in [] if traced.graph is None else traced.graph.nodes:
            self.read_node(node, head)
        if not self.problems and isinstance(self.expected, Tensor):
            try:
                return self.draft.build(tuple(self.example.shape[1:])), self.expected
            except TsnError as error:
                self.problems.append(str(error))
        found = "\n  - ".join(dict.fromkeys(self.problems))
        raise BodyError(f"{type(self.module).__name__} cannot become a body:\n  - {found}")

    # ---------------------------------------------------------------------------------------------------- operators

    def read_node(self, node: fx.Node, head: bool) -> None:
        """Note what a node becomes, or what is wrong with it."""
        try:
            self.names[node] = self.layer_of(node, head)
        except NetworkError as error:
            self.names[node] = None
            if str(error):
                self.problems.append(f"{self.where(node)}: {error}")

    def layer_of(self, node: fx.Node, head: bool) -> str | None:
        """The layer that gives what a node gives; NetworkError, empty where the mistake is told already."""
        match node.op:
            case "placeholder":
                return "input" if node.target == next(iter(node.graph.nodes)).target else None
            case "get_attr":
                self.constants.add(node)
                return None
            case "output":
                self.read_end(node, head)
                return None
        if figure(node, self.known):
            return None
        if not node.users and not str(node.target).endswith("_"):
            return None  # nobody reads it
        if node.op == "call_module":
            part = self.module.get_submodule(str(node.target))
            return self.read_module(node, part)
        return self.read_function(node)

    def read_function(self, node: fx.Node) -> str | None:
        """A function or a method of a tensor."""
        called = METHODS.get(str(node.target)) if node.op == "call_method" else node.target
        unknown = [other for other in node.all_input_nodes if self.names.get(other) is None]
        if any(other not in self.constants and not figure(other, self.known) for other in unknown):
            raise NetworkError("")  # what is wrong stands before it
        if str(node.target).endswith("_") and node.op == "call_method" and not node.users:
            raise NetworkError("changes a tensor in place that is read by its old name; assign what it gives")
        if called in (operator.add, torch.add, operator.iadd):
            return self.read_add(node)
        if called in (torch.flatten, torch.reshape, torch.squeeze):
            return self.read_flatten(node)
        if called is torch.mean:
            return self.read_mean(node)
        if called in (F.conv1d, F.conv2d, F.linear, F.batch_norm):
            raise NetworkError("computes with parameters of its own; use the module, such as nn.Conv2d or nn.Linear")
        part = as_module(called, node, self.known)
        if part is None:
            name = getattr(called, "__name__", str(node.target))
            raise NetworkError(ADVICE.get(name, f"has no counterpart; supported are {SUPPORTED}"))
        return self.read_module(node, part)

    def read_module(self, node: fx.Node, part: nn.Module) -> str | None:
        """A module that has a counterpart."""
        self.calls[str(node.target)] += 1
        if isinstance(part, (*CONVOLUTIONS, nn.Linear, *BATCH_NORMS)) and self.calls[str(node.target)] > 1:
            raise NetworkError("is called twice; layers share no weights: make two modules")
        if getattr(type(part), "__name__", "") == "QuantEltwiseAdd":
            return self.read_add(node)
        readers: list[tuple[Any, Callable[[fx.Node, Any], str]]] = [
            (CONVOLUTIONS, self.read_conv),
            (nn.Linear, self.read_linear),
            (BATCH_NORMS, self.read_batch_norm),
            (nn.ReLU6, lambda node, part: self.rectify(node, 0.0, 6.0)),
            (nn.ReLU, lambda node, part: self.rectify(node, 0.0, math.inf)),
            (nn.Hardtanh, lambda node, part: self.rectify(node, part.min_val, part.max_val)),
            (nn.Dropout, self.read_dropout),
            (nn.Flatten, lambda node, part: self.read_flatten(node)),
            (LAST, lambda node, part: self.read_last(node)),
            (POOLS, self.read_pool),
            (NOTHING, lambda node, part: self.passed(node)),
        ]
        if is_known(part):
            for kinds, reader in readers:
                if isinstance(part, kinds):
                    return reader(node, part)
            if type(part).__name__ == "QuantReLU":
                return self.rectify(node, 0.0, math.inf)
            if type(part).__name__ in ("QuantIdentity", "QuantDropout"):
                return self.passed(node)
        raise NetworkError(advice_for(part))

    def read_conv(self, node: fx.Node, part: nn.Conv1d | nn.Conv2d) -> str:
        source = self.source(node)
        if part.padding_mode != "zeros":
            raise NetworkError(f"padding_mode = {part.padding_mode!r}; pads with zeros only")
        window = Window.of(part.kernel_size, part.stride, part.padding, part.dilation)
        return self.draft.weighted(self.path(node), source, part, window)

    def read_linear(self, node: fx.Node, part: nn.Linear) -> str:
        source = self.source(node)
        if len(self.shape(self.input_of(node))) != 2:
            raise NetworkError(
                f"reads {tuple(self.shape(self.input_of(node)))}; a Linear reads (N, features): put a Flatten before it"
            )
        return self.draft.weighted(self.path(node), source, part)

    def read_batch_norm(self, node: fx.Node, part: nn.BatchNorm2d) -> str:
        source, previous = self.source(node), self.input_of(node)
        if part.running_mean is None or part.running_var is None:
            raise NetworkError("keeps no statistics; use track_running_stats=True")
        if not self.draft.is_sum(source):
            raise NetworkError("must stand right behind a Conv or Linear, whose scale and bias it becomes")
        self.require_alone(previous, source)
        self.draft.normalize(source, part)
        return self.passed(node)

    def rectify(self, node: fx.Node, low: float, high: float) -> str:
        """A ReLU or one that saturates: part of the layer that computes, in front of pools and flattening."""
        source = self.draft.computing(self.source(node))
        if self.draft.is_cut(source, low, high):
            self.require_alone(self.input_of(node), source)
            self.draft.rectify(source, low, high)
        return self.passed(node)

    def read_dropout(self, node: fx.Node, part: nn.Dropout) -> str:
        source = self.source(node)
        if part.p:
            if source == "input":
                raise NetworkError("drops inputs; put it behind the first layer")
            self.require_alone(self.input_of(node), source)
            self.draft.drop(source, part.p)
        return self.passed(node)

    def read_pool(self, node: fx.Node, part: Any) -> str:
        source, sizes = self.source(node), self.shape(self.input_of(node))[2:]
        if len(sizes) != (1 if type(part).__name__.endswith("1d") else 2):
            raise NetworkError(f"reads {tuple(self.shape(self.input_of(node)))}; must be a batch of its dimensions")
        is_average, given = isinstance(part, AVERAGES), self.shape(node)[2:]
        if hasattr(part, "output_size"):
            if any(size % target for size, target in zip(sizes, given, strict=True)):
                raise NetworkError(f"makes {tuple(given)} of {tuple(sizes)}; windows must all have one size")
            kernel = tuple(size // target for size, target in zip(sizes, given, strict=True))
            window = Window.of(kernel, kernel, 0, 1)
        else:
            stride = part.stride if part.stride is not None else part.kernel_size
            window = Window.of(part.kernel_size, stride, part.padding, getattr(part, "dilation", 1), len(sizes))
            window = window.up_to(sizes, given)
        if getattr(part, "return_indices", False):
            raise NetworkError("has return_indices, which pools do not have here")
        if is_average and getattr(part, "divisor_override", None) not in (None, math.prod(window.kernel)):
            raise NetworkError("has a divisor_override; must divide by the size of its window")
        self.origin[node], counted = self.input_of(node), getattr(part, "count_include_pad", True)
        return self.draft.pool("AvgPool" if is_average else "MaxPool", self.path(node), source, window, counted)

    def read_mean(self, node: fx.Node) -> str:
        source, before, after = self.source(node), self.shape(self.input_of(node)), self.shape(node)
        if len(before) < 3 or tuple(after[:2]) != tuple(before[:2]) or math.prod(after[2:]) != 1:
            raise NetworkError("must be the mean of whole maps, of shape (N, channels)")
        name = self.draft.pool(
            "AvgPool", self.path(node), source, Window.of(tuple(before[2:]), tuple(before[2:]), 0, 1)
        )
        return self.draft.flatten(f"{name}.flatten", name) if len(after) == 2 else name

    def read_add(self, node: fx.Node) -> str:
        operands = [x for x in [*node.args, node.kwargs.get("other")][:2] if isinstance(x, fx.Node)]
        if len(operands) < 2 or any(x in self.constants for x in operands):
            raise NetworkError("adds a constant or a parameter; use the bias of a layer, or shift the data before")
        first, second = operands
        if node.kwargs.get("alpha", 1) != 1:
            raise NetworkError("has an alpha; must be a plain sum")
        if self.shape(first) != self.shape(second):
            raise NetworkError(f"adds {tuple(self.shape(first))} to {tuple(self.shape(second))}; must be equal")
        if (node.target is operator.iadd or str(node.target) == "add_") and len(first.users) > 1:
            raise NetworkError("changes a tensor in place that others read too; write x = x + y")
        names = [name for name in (self.names.get(first), self.names.get(second)) if name is not None]
        if len(names) < 2:
            raise NetworkError("")
        return self.draft.add(self.path(node), *names)

    def read_flatten(self, node: fx.Node) -> str:
        source, before, after = self.source(node), self.shape(self.input_of(node)), self.shape(node)
        if before == after:
            return self.passed(node)
        if len(after) != 2 or after[0] != before[0] or after[1] != math.prod(before[1:]):
            raise NetworkError(
                f"makes {tuple(after)} of {tuple(before)}; must make (N, features) of a map: other shapes have no "
                "counterpart"
            )
        self.origin[node] = self.input_of(node)
        return self.draft.flatten(self.path(node), source)

    def read_last(self, node: fx.Node) -> str:
        if [user.op for user in node.users] != ["output"]:
            raise NetworkError("must stand at the end, where it leaves the largest logit where it is")
        self.expected = self.known[self.input_of(node)]
        return self.passed(node)

    def read_end(self, node: fx.Node, head: bool) -> None:
        """The last layer gives the logits, or features."""
        result = node.args[0]
        if not isinstance(result, fx.Node):
            raise NetworkError("gives several tensors; a network has one head")
        name = self.names.get(result)
        if name is None:
            raise NetworkError("")
        if head:
            self.draft.take_head(name)

    # ------------------------------------------------------------------------------------------------------- tools

    def input_of(self, node: fx.Node) -> fx.Node:
        """The node whose tensor a node reads."""
        given = node.args[0] if node.args else node.kwargs.get("input")
        if not isinstance(given, fx.Node):
            raise NetworkError("reads no tensor of the network")
        return given

    def source(self, node: fx.Node) -> str:
        """The layer whose output a node reads."""
        given = self.input_of(node)
        if given in self.constants:
            raise NetworkError("computes with a parameter of its own; use the module, such as nn.Conv2d or nn.Linear")
        name = self.names.get(given)
        if name is None or given not in self.known:
            raise NetworkError("")  # what is wrong stands before it
        return name

    def shape(self, node: fx.Node) -> torch.Size:
        """Shape of what a node gives, with the batch."""
        found = self.known.get(node)
        if not isinstance(found, Tensor):
            raise NetworkError("")
        return found.shape

    def passed(self, node: fx.Node) -> str:
        """What a node gives is still what its layer gives."""
        self.origin[node] = self.input_of(node)
        return self.source(node)

    def require_alone(self, node: fx.Node, source: str) -> None:
        """Nobody else may read a tensor, nor what it is made of, back to the layer that computes it."""
        while True:
            if len(node.users) > 1:
                raise NetworkError(
                    "its input is read elsewhere too; a layer gives its output with it or without, not both"
                )
            if node not in self.origin:
                return
            node = self.origin[node]

    def path(self, node: fx.Node) -> str:
        """A name for the layer of a node: the path of its module, or the node's own name."""
        return str(node.target) if node.op == "call_module" else node.name

    def where(self, node: fx.Node) -> str:
        """Module path and operator of a node, for a message."""
        if node.op == "call_module":
            return f"{node.target} ({type(self.module.get_submodule(str(node.target))).__name__})"
        inside = list((node.meta.get("nn_module_stack") or {"forward": None}).keys())[-1] or "forward"
        return f"{inside} ({getattr(node.target, '__name__', node.target)})" if node.op != "output" else "forward"
