"""What layers keep of the tokens that they have seen."""
