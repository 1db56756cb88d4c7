"""The paper's experiments beside the published figures."""
