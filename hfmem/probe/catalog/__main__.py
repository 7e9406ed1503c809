"""Command line of the catalog's tool: `python -m hfmem.probe.catalog`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hfmem.probe.catalog import entries, totals


def main() -> int:
    """Regenerate, extend or check the catalog; exit status 1 if a model failed."""
    arguments = _parse()
    catalog = entries.read()
    if arguments.check:
        return _check(catalog)
    failed = (
        _extend(catalog, arguments.configs, arguments.only) if arguments.configs else _renew(catalog, arguments.only)
    )
    if arguments.published:
        failed += _publish(catalog, arguments.published)
    entries.write(catalog.values(), {name: version(name) for name in ("transformers", "torch")})
    print(f"{len(catalog)} models, {entries.CATALOG.stat().st_size:,} bytes, {failed} failed")
    return int(failed > 0)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m hfmem.probe.catalog", description=__doc__)
    parser.add_argument("--configs", type=Path, action="append", help="folder of <org>--<name>/config.json to add")
    parser.add_argument("--published", type=Path, help="JSON lines of published totals to compare with and to store")
    parser.add_argument("--check", action="store_true", help="only compare with the published totals; needs no PyTorch")
    parser.add_argument("--only", action="append", default=[], help="a model's id; repeatable")
    return parser.parse_args()


def _renew(catalog: dict[str, entries.Entry], only: list[str]) -> int:
    from hfmem.probe.catalog import generate  # needs PyTorch, which a check must not

    failed = 0
    for model in only or list(catalog):
        try:
            catalog[model] = totals.with_published(generate.regenerate(catalog[model]))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            failed += _report(model, error)
    return failed


def _extend(catalog: dict[str, entries.Entry], directories: list[Path], only: list[str]) -> int:
    from hfmem.probe.catalog import generate  # needs PyTorch, which a check must not

    failed = 0
    for directory in directories:
        sources = _sources(directory)
        for path in sorted(directory.glob("*--*/config.json")):
            model = path.parent.name.replace("--", "/", 1)
            if only and model not in only:
                continue
            try:
                published = catalog[model].published if model in catalog else {}
                entry = replace(generate.from_folder(path.parent, sources), published=published)
                catalog[model] = totals.with_published(entry)
            except generate.LeftOutError as reason:
                print(f"left out: {model}: {reason}", file=sys.stderr)
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                failed += _report(model, error)
    return failed


def _publish(catalog: dict[str, entries.Entry], path: Path) -> int:
    failed = 0
    rows = totals.read_rows(path)
    for model in catalog.keys() & rows.keys():
        try:
            catalog[model] = totals.with_published(catalog[model], rows[model])
        except ValueError as error:
            failed += _report(model, error)
    return failed


def _check(catalog: dict[str, entries.Entry]) -> int:
    complaints = list(totals.check(catalog))
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return int(bool(complaints))


def _sources(directory: Path) -> dict[str, dict[str, Any]]:
    """Provenance rows by the path of the file that they describe."""
    lines = (directory / "SOURCES.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["path"]: row for row in map(json.loads, lines)}


def _report(model: str, error: Exception) -> int:
    print(f"{model}: {type(error).__name__}: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
