"""How many machines a platform needs, from measured figures and assumptions that are all printed."""
