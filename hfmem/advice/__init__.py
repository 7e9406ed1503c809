"""Fits on accelerators, and changes that would help."""
