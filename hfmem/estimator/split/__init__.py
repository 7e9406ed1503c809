"""How layers, heads, experts and the vocabulary are split over ranks, by rules that are data."""
