"""The library itself: models run and trained by the classes of `transformers`."""
