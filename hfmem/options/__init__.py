"""The options, each declared once: name, type, default, help, and when it has an effect."""
