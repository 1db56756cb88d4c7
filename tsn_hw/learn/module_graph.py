"""The graph of a torch module, traced on an example: its operators, and the shapes of what they give."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from tsn_hw.core.errors import brief
from tsn_hw.learn.module_operators import FAILURES, advice_for, is_known, is_quantized


@dataclass
class Traced:
    """What is known of a module.

    graph: None where it has none. known: what every node gives, of maps the shape alone. result: what the module gives
    for the example, None where it does not run.
    """

    problems: list[str]
    graph: fx.Graph | None = None
    known: dict[fx.Node, Any] = field(default_factory=dict)
    result: Any = None


class _Tracer(fx.Tracer):
    """Stops at modules that have a counterpart, and at those of torch and Brevitas that have none."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_known(m) or super().is_leaf_module(m, module_qualified_name) or is_quantized(m)


class _Values(fx.Interpreter):
    """Runs a graph on the example, and keeps every value, of maps the shape alone."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.known: dict[fx.Node, Any] = {}
        self.at = "forward"

    def run_node(self, n: fx.Node) -> Any:
        self.at = str(n.target)
        value = super().run_node(n)
        value = getattr(value, "value", value) if is_quantized(value) else value
        is_map = isinstance(value, Tensor) and value.dim() > 2
        self.known[n] = value.to("meta") if is_map else value
        return value


def trace(module: nn.Module, example: Tensor) -> Traced:
    """The graph of a module; problems where it has none, or does not run on the example."""
    found = Traced(_hooks(module))
    try:
        found.graph = _Tracer().trace(module)
    except FAILURES as error:
        why = f"has no fixed graph ({brief(str(error))}); a body may not decide by the values or number of its inputs"
        found.problems += [f"forward: {why}", *_unknown(module)]
        return found
    inputs = [node for node in found.graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        found.problems.append(f"forward: takes {len(inputs)} inputs; a network has one")
        return found
    values = _Values(fx.GraphModule(module, found.graph))
    try:
        with torch.no_grad():
            result = values.run(example)
        found.result = getattr(result, "value", result) if is_quantized(result) else result
    except FAILURES as error:
        found.problems.append(f"{values.at}: does not run on the example ({brief(str(error))})")
    found.known = values.known
    return found


def _hooks(module: nn.Module) -> list[str]:
    return [
        f"{path or 'module'} ({type(part).__name__}): has hooks; remove them"
        for path, part in module.named_modules()
        if part._forward_hooks or part._forward_pre_hooks
    ]


def _unknown(module: nn.Module) -> list[str]:
    """Modules of torch that have no counterpart, called or not."""
    return [
        f"{path} ({type(part).__name__}): {advice_for(part)}"
        for path, part in module.named_modules()
        if type(part).__module__.startswith("torch.nn") and not any(part.children()) and not is_known(part)
    ]
