"""Reads checkpoints from the Hub, caches, local folders or the bundled catalog. The only package that uses the net."""
