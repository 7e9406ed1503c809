"""How a model is trained: optimizer, precision, software stack, adapters. Values and tables without step formulas."""
