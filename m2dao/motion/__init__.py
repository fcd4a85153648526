"""Decoupled motion: rigid head, non-rigid facial, non-rigid oral, torso and the constraint that holds them together."""
