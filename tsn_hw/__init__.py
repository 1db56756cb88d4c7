"""Core of tsn-hw: the packed network, its arithmetic, its words and its file. Importing it never loads torch."""

from tsn_hw.arithmetic import ActFormat
from tsn_hw.network import PackedNetwork

__all__ = ["ActFormat", "PackedNetwork"]
