"""Offline tools that measure the `transformers` implementations and write the tables in `hfmem/data/`. They need the
`[probe]` extra; the rest of the package imports them only on demand."""
