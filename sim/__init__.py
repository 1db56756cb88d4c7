"""The bit-accurate simulator and what is estimated from it. Importing it never loads torch."""

from sim.integer import Simulator, simulate

__all__ = ["Simulator", "simulate"]
