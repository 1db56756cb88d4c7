"""Commands that build, measure and price accelerators."""
