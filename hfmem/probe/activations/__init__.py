"""Measures what the implementations in `transformers` save and allocate, and solves for the coefficients.

tracer   all storages that a step allocates and frees, in order, with the part of the model
step     one training step or prefill of a model, under the tracer
variants small configs of a type whose sizes all differ
algebra  from bytes at several sizes to a polynomial in these sizes
derive   the coefficients of a type; `python -m hfmem.probe` writes them to data/
"""
