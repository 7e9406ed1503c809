"""Generated tables, each with the versions it was made from; `CONTRIBUTING.md` says how to make them again."""
