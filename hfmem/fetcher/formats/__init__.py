"""File formats: one module each, and nothing else knows how a format lays out its bytes."""
