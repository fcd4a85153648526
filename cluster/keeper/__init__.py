"""The keeper: one process, somewhere, that owns all open work. ``python -m cluster.keeper`` is one."""
