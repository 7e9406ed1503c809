"""A training step: resident memory, memory per phase, and the tables of training software."""
