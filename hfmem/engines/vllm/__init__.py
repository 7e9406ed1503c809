"""vLLM: memory of a server's rank by the engine's own rules, with one set of rules per release that changed them."""
