"""The accelerator of a network: units, their folding, memories, channels and cycles."""
