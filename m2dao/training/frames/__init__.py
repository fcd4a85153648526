"""Which frames a fit trains on, and what it compares each with."""
