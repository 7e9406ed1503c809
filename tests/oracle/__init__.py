"""Tests that measure the real implementation; they need PyTorch."""
