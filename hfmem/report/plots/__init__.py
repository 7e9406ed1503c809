"""Pictures of reports: `panels` says what is in one, `draw` draws it (with the library of the extra `[plot]`), `file`
makes the bytes of a PNG, SVG or HTML file of it."""
