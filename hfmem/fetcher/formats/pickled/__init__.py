"""PyTorch's pickles (`.bin`, `.pt`, `.pth`, `.ckpt`, TorchScript), read as data: nothing in them is ever called."""
