"""Reports as HTML without scripts: fragments for notebooks and pages, and a whole page.

`fragment(report)` is everything about one report, `summary(report)` a few lines of it, `comparison(reports, problems)`
a table of several, `page(reports, problems)` a document that needs nothing else. Every fragment takes the colour of
text and ground from what is around it (so it is at home in light and in dark), and has all names escaped; it carries
its own style, unless the page around it has `hfmem.report.html.style.STYLE`.
"""
