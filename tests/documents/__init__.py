"""What README.md and docs/ show is made by commands: `python -m tests.documents --write` makes it again.

* An output that stands under its command (```console, `$ hfmem …`), and the card under the README's first command.
* Tables and figures between `<!-- python -m tests.documents NAME -->` and `<!-- end -->`.
* The README's picture, `docs/card.svg`: the card in a real terminal.
"""
