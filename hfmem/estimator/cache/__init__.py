"""The KV cache and recurrent states."""
