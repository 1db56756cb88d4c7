"""RTL projects."""
