"""Back ends: they turn a packed network into files that other tools run."""
