"""Measures activations of the real implementations, and writes `data/activations.jsonl`.

    python -m hfmem.probe                 every text-generating and encoder type of the installed `transformers`
    python -m hfmem.probe qwen3 gemma3    only these types, leaving the others unchanged (seconds per type)
    python -m hfmem.probe --modes prefill only these modes of the types in the file, leaving other modes unchanged

Types and modes that could not be measured are listed with the reason in `data/activations_report.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import signal
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import torch
import transformers

from hfmem.probe import tiny
from hfmem.probe.activations import store
from hfmem.probe.activations.step import Mode
from hfmem.probe.activations.structures import plain, structures_of
from hfmem.probe.activations.table import FLASH, MODES, PIECES, RECOMPUTED, derive, merged, modes_of

DATA: Final = Path(__file__).parent.parent / "data"
TARGET: Final = DATA / "activations.jsonl"
_ORDER: Final = (
    "causal",
    "image-text",
    "encoder-decoder",
    "masked",
)  # text models before the multimodal models that contain them
_PATIENCE: Final = 300  # wall-clock seconds for one type, generous for a busy machine
_SECONDS: Final = 60  # CPU seconds for one type; `derive` starts no mode that would probably end after 50
REPORT: Final = DATA / "activations_report.jsonl"


def main() -> None:
    """Measure the types, print one line each, and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--modes",
        default="",
        help="only modes whose name contains this, for types already in the file; full+gc for recomputed layers",
    )
    parser.add_argument("--dry", action="store_true", help="do not write")
    arguments = parser.parse_args()
    if missing := [name for name in arguments.types if plain(name) not in tiny.types()]:
        parser.error(f"transformers {transformers.__version__} has no text-generating class for {', '.join(missing)}")
    started = time.monotonic()
    asked = modes_named(arguments.modes)
    if arguments.modes and not asked:
        parser.error(f"no mode has '{arguments.modes}' in its name")
    there = stored() if arguments.modes else {}
    types = [name for name in expanded(arguments.types or names()) if not arguments.modes or name in there]
    for measured in rows(types, arguments.jobs, asked):
        print(describe(measured), flush=True)
        row = merged(there[measured["type"]], dict(measured)) if arguments.modes else measured
        if not arguments.dry:
            write(row, report=not arguments.modes)
    print(f"{time.monotonic() - started:.0f} s")


def modes_named(part: str) -> list[Mode]:
    """The modes with this in their name; none for "". Recomputed layers, which are measured of encoder-decoders only,
    where the name says so (`full+gc`)."""
    every = (*MODES, *FLASH, *PIECES, *(RECOMPUTED if "+" in part else ()))
    return [mode for mode in every if part and part in str(mode)]


def names() -> list[str]:
    """All types to measure; of a type's additional classes only encoder-decoders and encoders."""
    types = tiny.types()
    asked = [
        name for name, (group, _) in types.items() if group in _ORDER and (":" not in name or group in _ORDER[-2:])
    ]
    return sorted(asked, key=lambda name: (_ORDER.index(types[name][0]), name))


def expanded(types: Sequence[str]) -> list[str]:
    """The types, followed by one row name per config structure that their classes distinguish."""
    return [*types, *(row for name in types if plain(name) == name for row in structures_of(name))]


def stored() -> dict[str, dict[str, Any]]:
    """The rows of the file that do not refer to another type."""
    return {name: row for name, row in store.read(TARGET).items() if "same_as" not in row}


def rows(types: Sequence[str], jobs: int, modes: Sequence[Mode] = ()) -> Iterator[Mapping[str, Any]]:
    """The rows of several types, each measured in its own process, as a class may crash PyTorch or never finish."""
    torch.set_num_threads(1)
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(partial(_apart, modes=modes), types)


def _apart(model_type: str, modes: Sequence[Mode]) -> Mapping[str, Any]:
    context = get_context("fork")  # keeps the imports of this process
    started = time.monotonic()
    theirs, mine = context.Pipe(duplex=False)
    process = context.Process(target=lambda: mine.send(_within_time(model_type, modes)))
    process.start()
    mine.close()
    try:
        if theirs.poll(_PATIENCE):
            found: Mapping[str, Any] = theirs.recv()
            return found
        why = f"it did not finish within {_PATIENCE} s"
    except EOFError:
        process.join()
        slow = process.exitcode == -signal.SIGXCPU
        why = f"it took more than {_SECONDS} s" if slow else f"its process exited with {process.exitcode}"
    finally:
        process.kill()
        process.join()
        theirs.close()
    seconds = round(time.monotonic() - started, 1)
    empty = {"modes": {}, "within": {}, "fixed": {}, "missing": {"modes": why}, "seconds": seconds}
    return {"type": model_type, "class": tiny.types()[plain(model_type)][1], **empty}


def _within_time(model_type: str, modes: Sequence[Mode]) -> Mapping[str, Any]:
    """A row, measured with a limit on CPU time."""
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS + 1))
    return measure(model_type, modes)


def measure(model_type: str, modes: Sequence[Mode] = ()) -> Mapping[str, Any]:
    """The row of one type, without the warnings of the libraries."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return derive(model_type, [mode for mode in (*modes_of(model_type), *RECOMPUTED) if mode in modes])


def describe(row: Mapping[str, Any]) -> str:
    """A row as a line to print."""
    counts = f"{len(row['modes']):2} modes, {len(row['within'])} within windows"
    reason = next(iter(row["missing"].items()), None)
    why = f"  {reason[0]}: {reason[1]}" if reason else ""
    return f"{row['type']:28} {counts}, residual {row.get('residual', 0):.5f}, {row['seconds']:5.1f} s{why}"


def write(row: Mapping[str, Any], *, report: bool) -> None:
    """Replace the type's row in the file, and its line in the report."""
    head = {"transformers": transformers.__version__, "torch": torch.__version__.partition("+")[0]}
    head["tool"] = "python -m hfmem.probe"
    rows = store.read(TARGET)
    rows.pop(row["type"], None)
    store.write(TARGET, head, rows | ({row["type"]: dict(row)} if row["modes"] else {}))
    if report:
        found = {"type": row["type"], "group": tiny.types()[plain(row["type"])][0]}
        found |= {key: row[key] for key in ("class", "seconds", "fixed", "missing")}
        found |= {"modes": len(row["modes"]), "residual": row.get("residual")}
        _replace(REPORT, head, row["type"], json.dumps(found))


def _replace(path: Path, head: Mapping[str, str], name: str, text: str | None) -> None:
    lines = path.read_text(encoding="ascii").splitlines()[1:] if path.exists() else []
    kept = {json.loads(item)["type"]: item for item in lines}
    kept.pop(name, None)
    if text is not None:
        kept[name] = text
    path.write_text("\n".join([json.dumps(head), *(kept[key] for key in sorted(kept))]) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
