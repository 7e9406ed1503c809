"""Measures the real llama.cpp, which tells its buffers and its graphs without weights and without computing."""
