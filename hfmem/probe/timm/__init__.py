"""Measures what a forward pass of timm's models allocates: `python -m hfmem.probe.timm`."""
