"""Core of tsn-hw: the packed network, its arithmetic, its words and its file. Importing it never loads torch."""

from importlib.metadata import version

from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.artifact import load, save
from tsn_hw.core.capacity import capacity
from tsn_hw.core.errors import TsnError
from tsn_hw.core.facts import LayerFacts
from tsn_hw.core.layers import Add, AvgPool, Conv2d, Flatten, Linear, MaxPool
from tsn_hw.core.network import PackedNetwork
from tsn_hw.core.parts import Bank, BankLayer, Requantization, Step, Task

__version__ = version("tsn-hw")
__all__ = [
    "ActFormat",
    "Add",
    "AvgPool",
    "Bank",
    "BankLayer",
    "Conv2d",
    "Flatten",
    "LayerFacts",
    "Linear",
    "MaxPool",
    "PackedNetwork",
    "Requantization",
    "Step",
    "Task",
    "TsnError",
    "__version__",
    "capacity",
    "load",
    "save",
]
