"""What fits, and what would help."""
