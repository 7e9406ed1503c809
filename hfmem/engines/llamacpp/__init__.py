"""llama.cpp: weights, caches and compute buffers by device, as its loader and its graph allocator lay them out."""
