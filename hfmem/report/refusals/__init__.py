"""The sentences of what is refused: a module for each of `hfmem/refusals/`."""
