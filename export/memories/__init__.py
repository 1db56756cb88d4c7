"""Memory files of an accelerator, and patches of them."""
