"""The weights in memory."""
