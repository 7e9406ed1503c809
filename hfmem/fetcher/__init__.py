"""Bytes in: from the Hub, a cache, a local folder or the bundled catalog. The only package that opens a socket."""
