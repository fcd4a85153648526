"""Compiled twins of the motion fields, with their gradients."""
