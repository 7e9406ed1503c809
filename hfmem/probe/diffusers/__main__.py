"""`python -m hfmem.probe.diffusers [CLASS...]`: writes `hfmem/data/diffusers_calls.jsonl`, one line for each class,
config and call."""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from hfmem.engines.diffusers.calls import rows as measured
from hfmem.mapper.pipelines.sizes import unlike
from hfmem.mapper.pipelines.values import Component
from hfmem.probe.diffusers.measuring import measure
from hfmem.probe.diffusers.recipes import DENOISERS, ENCODERS, OLDER, VAES, Recipe

_TABLE: Final = Path(__file__).parents[2] / "data" / "diffusers_calls.jsonl"
_APART: Final = 0.005  # a row with a larger deviation would be a wrong answer
_REPORT: Final = Path(__file__).parents[2] / "data" / "diffusers_calls_report.jsonl"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure classes and write their rows; rows of other classes stay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("classes", nargs="*", help="only these")
    parser.add_argument("--without", nargs="*", default=(), help="not these")
    parser.add_argument("--quick", action="store_true", help="without varying the sizes of the configs")
    parser.add_argument("--half", action="store_true", help="without float32")
    parser.add_argument("--kind", choices=("denoiser", "vae", "text_encoder"), help="only classes of this kind")
    parser.add_argument("--catalog", action="store_true", help="only configs of the catalog that no row describes")
    parser.add_argument("--before", default="", help="the classes of releases before this one, which is not installed")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    for kind, table in (("denoiser", DENOISERS), ("vae", VAES), ("text_encoder", ENCODERS)):
        for name, newest in table.items():
            usual = OLDER.get(options.before, {}).get(name, ()) if options.before else newest
            if (
                (options.classes and name not in options.classes)
                or name in options.without
                or options.kind not in (None, kind)
                or not usual
            ):
                continue
            _class((name, kind), usual, options)


def _class(what: tuple[str, str], usual: Sequence[Recipe], options: Any) -> None:
    """Measure the configs of a class, and those of the catalog that its rows do not describe."""
    name, _ = what
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []

    def measured_too(recipes: Sequence[Recipe]) -> None:
        for recipe in recipes:
            _one((*what, recipe), rows, failed, options)
            # after each, as a class may take long
            _replace(_TABLE, name, rows, options)
            _replace(_REPORT, name, failed, options)

    if not options.catalog:
        measured_too(usual)
    if not options.before:
        measured_too(_of_catalog(name, usual, measured(name) if options.catalog else tuple(rows)))


def _of_catalog(name: str, usual: Sequence[Recipe], described: Sequence[Mapping[str, Any]]) -> tuple[Recipe, ...]:
    """The calls of a class with those configs of the catalog's pipelines that differ from what is measured."""
    found: list[Recipe] = []
    for line in (_TABLE.parent / "pipelines.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row.get("class") != name or not row.get("config"):
            continue
        config = {key: tuple(value) if isinstance(value, list) else value for key, value in row["config"].items()}
        config = {key: value for key, value in config.items() if not key.startswith("_")}
        component = Component(name="it", kind="other", library="diffusers", class_name=name, config=row["config"])
        for recipe in {recipe.method: recipe for recipe in usual}.values():
            same = [one for one in described if one["call"] == recipe.method]
            wanted = replace(recipe, config=config)
            if all(unlike(component, one) for one in same) and wanted not in found:
                found.append(wanted)
    return tuple(found)


def _one(what: tuple[str, str, Recipe], rows: list[dict[str, Any]], failed: list[dict[str, Any]], options: Any) -> None:
    name, kind, recipe = what
    both = not options.half and (kind == "vae" or "UNet" in name)
    for single in (False, True) if both else (False,):
        started = time.monotonic()
        try:
            row = measure(name, kind, recipe, single=single, quick=options.quick)
            if row["worst"] > (recipe.stairs or _APART):
                raise ValueError(f"the polynomials are {row['worst']:.1%} apart from a recorded peak")
            rows.append({**row, **({"before": options.before} if options.before else {})})
            told = f"{row['worst']:.1e}, {len(row['peak'])} moments, aligned {row['aligned']}"
        except Exception as error:
            told = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            failed.append({"class": name, "call": recipe.method, "reason": told})
        print(
            f"{name} {recipe.method} {'single' if single else 'half'}: {told} ({time.monotonic() - started:.0f} s)",
            file=sys.stderr,
            flush=True,
        )


def _replace(path: Path, name: str, rows: list[dict[str, Any]], options: Any) -> None:
    """Write the rows of a class, in place of its former ones or after them; those of other releases stay."""
    old = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    others = [row for row in old if row["class"] != name or row.get("before", "") != options.before]
    kept = [row for row in old if row in others or (options.catalog and row not in rows)]
    found = sorted([*kept, *rows], key=lambda row: row["class"])
    path.write_text("".join(json.dumps(row) + "\n" for row in found))


if __name__ == "__main__":
    main()
