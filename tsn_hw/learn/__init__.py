"""The learner: data, task streams, and everything that trains subnetworks and freezes them into a packed network."""
