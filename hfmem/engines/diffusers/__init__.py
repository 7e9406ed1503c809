"""diffusers, whose pipelines run several models one after another."""
