"""hfmem: how much memory a Hugging Face model needs, and where every byte comes from."""
