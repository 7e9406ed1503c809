"""Writes `data/catalog.jsonl`: well-known public models with the relevant part of their config and their tensors.

    python -m hfmem.probe.catalog                  regenerate every table from the configs inside the catalog
    python -m hfmem.probe.catalog --only MODEL     one of them
    python -m hfmem.probe.catalog --configs DIR    add or refresh models from `DIR/<org>--<name>/config.json`
    python -m hfmem.probe.catalog --check          compare with the published totals; needs no PyTorch

Modules by import order: `entries` (the file's lines), `facts` (the config keys to keep), `tables` (tensor tables as
dictionaries) <- `explicit` (models with custom code), `families` (how files differ from their class), `classes` (tables
from transformers classes), `prediction` (MTP layers, which no class builds), `quantized` (stored form of quantized
weights), `repositories` (exceptions for single repositories, and excluded ones) <- `generate` <- `__main__`. `totals`
(published parameter counts) imports only `entries`.
"""
