"""Sweeps: many networks from one trained run, their accuracies and costs, and which of them to take."""
