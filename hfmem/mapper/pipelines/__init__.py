"""Diffusion pipelines: several models, listed in model_index.json, that run one after another."""
