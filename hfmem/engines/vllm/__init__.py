"""vLLM: what a server's rank holds, by the engine's own rules. One set of rules a release that changed them."""
