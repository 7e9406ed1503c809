"""transformers: eager PyTorch, one prefill of all tokens, the cache that its cache objects hold."""
