"""From the user's options to a scenario with all defaults resolved."""
