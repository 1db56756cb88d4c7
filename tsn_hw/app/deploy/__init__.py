"""Commands that write, run and compare graphs."""
