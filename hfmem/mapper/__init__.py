"""From config.json and tensor headers to an architecture and its parameters. The only package that reads config keys
or tensor names."""
