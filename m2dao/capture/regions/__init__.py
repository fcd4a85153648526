"""Soft masks of the motion regions, and the background behind the person."""
