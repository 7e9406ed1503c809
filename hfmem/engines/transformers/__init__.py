"""transformers: models run and trained by the library's own classes."""
