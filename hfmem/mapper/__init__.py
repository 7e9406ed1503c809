"""From config.json and tensor headers to an architecture and its parameters. Only this package reads config keys and
tensor names."""
