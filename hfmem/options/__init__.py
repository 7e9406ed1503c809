"""What a person can ask for, each option declared once: name, type, default, help, and when it has an effect."""
