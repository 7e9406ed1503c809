"""How layers, heads, experts and the vocabulary lie on ranks: one model, by rules that are data."""
