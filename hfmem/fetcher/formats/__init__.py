"""File formats, one module each; no other module depends on the byte layout of a format."""
