"""What decides whether a version may serve."""
