"""Capture in, identity out: recipes, schedule, losses, optimiser, and the loop."""
