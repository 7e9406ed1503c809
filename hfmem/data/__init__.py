"""Generated tables, each with the versions and sources it was made from. `CONTRIBUTING.md` says how to make them again."""
