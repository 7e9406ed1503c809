"""A picture of the card as a terminal shows it: the command in a real one (a pseudo-terminal), its output as SVG."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
from html import unescape
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from tests.command import NOWHERE

__all__ = ["COMMAND", "PICTURE", "picture", "seen", "shown"]

ROOT: Final = Path(__file__).parents[2]
PICTURE: Final = ROOT / "docs" / "card.svg"
COMMAND: Final = 'hfmem meta-llama/Llama-3.1-8B-Instruct --gpu "RTX 4090" --seq 16k'
_COLUMNS: Final = 92

# rich's own frame without the fonts that it would fetch from another host
_FORMAT: Final = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>hfmem in a terminal</title>
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: ui-sans-serif, system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def shown(command: str = COMMAND) -> str:
    """What a terminal gets from the command, colours included."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, _COLUMNS, 0, 0))
    with tempfile.TemporaryDirectory() as home:
        env = {
            **os.environ,
            **NOWHERE,
            "HF_HOME": home,
            "XDG_CONFIG_HOME": home,
            "TERM": "xterm-256color",
            "PYTHONPATH": str(ROOT),
        }
        for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "CI"):
            env.pop(name, None)
        words = [sys.executable, "-m", *shlex.split(command)]
        with subprocess.Popen(
            words, stdout=theirs, stderr=subprocess.DEVNULL, stdin=theirs, env=env, cwd=home
        ) as process:
            os.close(theirs)
            parts = []
            while part := _read(ours):
                parts.append(part)
            os.close(ours)
            assert process.wait(60) == 0
    return b"".join(parts).decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    """What the other side wrote; nothing once it has closed (an error on Linux)."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def picture(output: str | None = None) -> str:
    """The SVG."""
    console = Console(record=True, width=_COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115, PTH123
    console.print(Text.assemble(("$ ", "bold green"), (COMMAND, "bold")))
    console.print(Text.from_ansi(shown() if output is None else output))
    console.file.close()
    return console.export_svg(title="hfmem", theme=MONOKAI, code_format=_FORMAT, unique_id="card") + "\n"


def seen(svg: str) -> list[str]:
    """The words of a picture, in order, whatever release of rich drew it."""
    return unescape(re.sub(r"<(style|title)>.*?</\1>|<[^>]+>", " ", svg, flags=re.DOTALL)).replace("\xa0", " ").split()
