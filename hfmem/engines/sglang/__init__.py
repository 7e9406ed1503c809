"""SGLang's server."""
