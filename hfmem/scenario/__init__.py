"""From what a person asks to a scenario with every choice made."""
