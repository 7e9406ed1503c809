"""Memory formulas. Independent of config keys and architecture names: sums over layers and tensor groups."""
