"""What weights take in memory."""
