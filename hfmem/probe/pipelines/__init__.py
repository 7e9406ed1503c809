"""What the installed diffusers and transformers say of the components of pipelines."""
