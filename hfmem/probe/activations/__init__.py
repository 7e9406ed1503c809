"""Measures what the real implementations of `transformers` keep and allocate, and solves for the coefficients.

tracer   every storage that a step allocates and frees, in order, by part of the model
step     one training step or prefill of a model, under the tracer
variants small configurations of a type whose sizes are all different
algebra  from bytes at several sizes to a polynomial in the sizes
derive   the coefficients of a type; `python -m hfmem.probe` writes them to data/
"""
