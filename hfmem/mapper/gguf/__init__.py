"""GGUF files as models: llama.cpp's keys and tensor names, one row an architecture."""
