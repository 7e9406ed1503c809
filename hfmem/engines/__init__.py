"""The software that runs a model, one folder each, behind one protocol."""
