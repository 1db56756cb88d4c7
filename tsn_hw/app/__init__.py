"""The commands: the only place that sees the learner, the back ends and the simulator at once."""
