"""Images, data sets and streams of tasks."""
