"""Reports as text. Nothing here prints: each format is a function from reports to a string."""
