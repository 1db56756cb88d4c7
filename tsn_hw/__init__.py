"""Core of tsn-hw: the packed network, its arithmetic, its words and its file. Importing it never loads torch."""

from importlib.metadata import version

from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.artifact import load, save
from tsn_hw.core.network import PackedNetwork

__version__ = version("tsn-hw")
__all__ = ["ActFormat", "PackedNetwork", "__version__", "load", "save"]
