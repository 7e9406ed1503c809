"""MLX, as mlx-lm runs language models with it."""
