"""The bit-accurate simulator and what is estimated from it."""
