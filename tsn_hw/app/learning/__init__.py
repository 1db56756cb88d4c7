"""Commands that learn, and the folder of a run."""
