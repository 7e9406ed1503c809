"""Activations: memory beyond weights and KV cache during a forward pass or a training step."""
