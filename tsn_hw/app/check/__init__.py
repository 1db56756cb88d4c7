"""What each back end supports of a network, a settings file or a foreign graph."""
