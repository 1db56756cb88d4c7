"""Core of tsn-hw: the packed network, its arithmetic, its words and its file. Importing it never loads torch."""

from importlib.metadata import version

from tsn_hw.arithmetic import ActFormat
from tsn_hw.artifact import load, save
from tsn_hw.network import PackedNetwork

__version__ = version("tsn-hw")
__all__ = ["ActFormat", "PackedNetwork", "__version__", "load", "save"]
