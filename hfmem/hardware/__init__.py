"""Accelerators: the table of those people have or rent, cloud instances, and what is in this machine."""
