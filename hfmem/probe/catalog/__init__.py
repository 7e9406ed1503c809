"""Writes `data/catalog.jsonl`: well-known public models with their config facts and their tensor tables.

    python -m hfmem.probe.catalog                  regenerate every table from the configs inside the catalog
    python -m hfmem.probe.catalog --only MODEL     one of them
    python -m hfmem.probe.catalog --configs DIR    add or refresh models from `DIR/<org>--<name>/config.json`
    python -m hfmem.probe.catalog --check          compare with the published totals; needs no PyTorch

Modules, imported one way: `entries` (the file's lines), `facts` (what of a config is kept), `tables` (rows in the
making) <- `explicit` (models with their own code), `families` (how files differ from their class), `classes` (rows of a
transformers class), `prediction` (layers that no class builds), `quantized` (stored form under a quantisation),
`repositories` (what single repositories hold, and which are left out) <- `generate` <- `__main__`. `totals` (published
figures) needs `entries` only.
"""
