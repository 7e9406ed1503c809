"""What convert_hf_to_gguf makes of a model: keys, tensor names and shapes, from its config.json and headers.

Modules by import order: `names` (tensor names), `keys` (values of the metadata), `dialects` (one row a class of
transformers) <- `tensors` (what becomes of each tensor) <- `convert`.
"""
