"""Writes `hfmem/data/timm_images.jsonl`: what a forward pass of timm's models needs, by batch and size of images.

    python -m hfmem.probe.timm [ARCHITECTURE ...]

Needs `pip install timm torchvision`. The real classes run under fake tensors at several sizes; each storage is
recognised as a polynomial in grids of positions, and the moments that can be the peak are kept. Passes at other sizes
verify them.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hfmem.probe.timm.architectures import ARCHITECTURES
from hfmem.probe.timm.measuring import UnmeasuredError, header, measure

__all__ = ["TARGET", "main"]

TARGET: Final = Path(__file__).parent.parent.parent / "data" / "timm_images.jsonl"


def main() -> int:
    """Measure the architectures that are named, or all; those that cannot be measured are told, and left out."""
    parser = argparse.ArgumentParser(prog="python -m hfmem.probe.timm", description=__doc__)
    parser.add_argument("names", nargs="*", help="names of timm.create_model")
    parser.add_argument("--out", type=Path, default=TARGET)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = arguments.out.read_text(encoding="utf-8").splitlines()[1:] if arguments.out.exists() else []
    rows = {(row["network"], row["precision"]): row for row in map(json.loads, lines)}
    gc.collect()
    gc.freeze()  # what is imported needs not be looked through for each pass
    for name in arguments.names or ARCHITECTURES:
        try:
            for row in measure(name):
                rows[name, row["precision"]] = row
                print(name, row["precision"], row["unit"], row["off"], row["peak"], flush=True)
        except UnmeasuredError as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {str(error)[:160]}", file=sys.stderr, flush=True)
        _write(rows, arguments.out)
    return 0


def _write(rows: Mapping[tuple[str, str], Mapping[str, Any]], path: Path) -> None:
    lines = [json.dumps(row, separators=(",", ":")) for row in (header(), *(rows[key] for key in sorted(rows)))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
