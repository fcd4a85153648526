"""Figures of an identity against its recording; trains nothing."""
