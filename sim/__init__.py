"""The bit-accurate simulator and what is estimated from it. Importing it never loads torch."""

import sim.borrowed  # noqa: F401  it sees only the forks that follow
from sim.cost import estimate_cost
from sim.devices import device
from sim.gate import Gate
from sim.integer import Simulator, simulate
from sim.resources import estimate_resources
from sim.search import SearchLimits, search_folding

__all__ = [
    "Gate",
    "SearchLimits",
    "Simulator",
    "device",
    "estimate_cost",
    "estimate_resources",
    "search_folding",
    "simulate",
]
