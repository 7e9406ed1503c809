"""Estimates held against what real runs printed."""
