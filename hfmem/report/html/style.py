"""The style of fragments and of the page. Colours of text and ground are inherited: light or dark is the page's."""

from __future__ import annotations

from typing import Final

__all__ = ["PAGE", "STYLE"]

STYLE: Final = """
.hfmem{line-height:1.45;color:inherit;background:none;max-width:62rem}
.hfmem *{box-sizing:border-box}
.hfmem h2,.hfmem h3{margin:1.1em 0 .3em;font-size:1.05em;line-height:1.3;overflow-wrap:anywhere}
.hfmem h2{font-size:1.25em;margin-top:.2em}
.hfmem p{margin:.3em 0}
.hfmem .said{font-size:1.1em;font-weight:600}
.hfmem .dim{opacity:.75}
.hfmem .bar{margin:.7em 0 .9em}
.hfmem .bar svg{display:block;width:100%;height:1.6em;border-radius:3px}
.hfmem .of{display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 1em}
.hfmem .wide{overflow-x:auto}
.hfmem table{border-collapse:collapse;margin:.3em 0;font-variant-numeric:tabular-nums;background:none}
.hfmem tr{background:none}
.hfmem th,.hfmem td{padding:.15em .9em .15em 0;text-align:left;vertical-align:top;border:0;\
border-bottom:1px solid color-mix(in srgb,currentColor 18%,transparent)}
.hfmem th{font-weight:600}
.hfmem .n{text-align:right;white-space:nowrap}
.hfmem .key{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.45em}
.hfmem pre{margin:.3em 0;padding:.5em .7em;overflow-x:auto;white-space:pre-wrap;overflow-wrap:anywhere;\
border-radius:4px;color:inherit;background:color-mix(in srgb,currentColor 9%,transparent)}
.hfmem details{margin:.6em 0}
.hfmem summary{cursor:pointer;font-weight:600}
.hfmem .how{overflow-wrap:anywhere;min-width:14em}
""".strip()

PAGE: Final = """
:root{color-scheme:light dark}
body{margin:0 auto;padding:1.2rem;max-width:66rem;font:16px/1.45 system-ui,sans-serif;color:CanvasText;\
background:Canvas}
a{color:LinkText}
""".strip()
