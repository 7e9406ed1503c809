"""Memory formulas. Knows no config key and no architecture by name: it sums what layers and tensor groups answer."""
