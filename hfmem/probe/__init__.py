"""Measures the `transformers` implementations and writes the tables in `hfmem/data/`. Needs the `[probe]` extra;
nothing in the rest of the package imports it."""
