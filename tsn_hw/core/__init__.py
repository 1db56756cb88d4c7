"""The packed network, its arithmetic, its words and its file. Nothing here loads torch."""
