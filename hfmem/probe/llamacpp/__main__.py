"""Writes `data/llamacpp_graphs.jsonl`: the graphs of llama.cpp's architectures, with sizes as formulas.

HFMEM_LLAMACPP=FOLDER python -m hfmem.probe.llamacpp              # all architectures
HFMEM_LLAMACPP=FOLDER python -m hfmem.probe.llamacpp qwen3 gemma3  # … these, to stdout
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from hfmem.mapper.gguf.rows import ROWS
from hfmem.probe.llamacpp import specimens
from hfmem.probe.llamacpp.library import RELEASE, Asked, LlamaError, apart, library
from hfmem.probe.llamacpp.plans import BEGUN, FUSED, NEEDED, OPTIONAL, PROFILES, USUAL, Plan, plans, values
from hfmem.probe.llamacpp.recording import Recorded, recorded
from hfmem.probe.llamacpp.specimens import Specimen
from hfmem.probe.llamacpp.storage import Store

TARGET = Path(__file__).parents[2] / "data" / "llamacpp_graphs.jsonl"


def main() -> None:
    """Record the named architectures, or all."""
    parser = argparse.ArgumentParser(description="record the graphs of llama.cpp's architectures")
    parser.add_argument("architecture", nargs="*", help="default: all")
    parser.add_argument("--out", type=Path, help=f"default: {TARGET}, or stdout where architectures are named")
    parser.add_argument("--into", type=Path, help="a file whose other architectures are kept")
    parser.add_argument("--jobs", type=int, default=2, help="architectures at once")
    asked = parser.parse_args()
    out = asked.into or asked.out or (None if asked.architecture else TARGET)
    store = Store()
    if asked.into is not None:
        store.read(asked.into.read_text(), without=asked.architecture)
    with ProcessPoolExecutor(asked.jobs) as pool:
        for found in pool.map(_architecture, asked.architecture or ROWS):
            for each in found:
                store.add(*each)
            if out is not None:
                out.write_text(_text(store))
    if out is None:
        print(_text(store), end="")


def _text(store: Store) -> str:
    head = json.dumps({"source": f"llama.cpp {RELEASE}", "tool": "python -m hfmem.probe.llamacpp"})
    return "\n".join([head, *store.lines()]) + "\n"


_Found = tuple[Plan, dict[str, Recorded], list[list[str]], list[str]]


def _architecture(architecture: str) -> list[_Found]:
    """Every structure of an architecture."""
    with tempfile.TemporaryDirectory() as folder:
        return list(_structures(architecture, Path(folder) / "specimen.gguf"))


def _structures(architecture: str, path: Path) -> Iterator[_Found]:
    seen: set[str] = set()
    latent: bool | None = None  # whether its files have a latent: known from the first that loads
    for plan in plans(architecture):
        if "latent" in plan.variant and latent is False:
            continue
        found = _specimen(plan, path)
        if found is None:
            continue
        latent = latent or "attention.kv_lora_rank" in found.keys
        if plan.variant.endswith("ending"):  # the same with another last layer: in the usual form only
            variants = list(_variants(plan.variant, found, path))[:1]
        else:
            variants = list(_variants(plan.variant, found, path))
        for variant, specimen in variants:
            if _new(specimen, plan, seen):
                found_ = _recorded(replace(plan, variant=variant), specimen, path)
                if found_ is not None:
                    yield found_


def _recorded(plan: Plan, specimen: Specimen, path: Path) -> _Found | None:
    started = time.monotonic()
    try:
        graphs = recorded(specimen, path)
    except LlamaError as error:
        print(f"{plan.architecture} {plan.variant}: {str(error).strip()[-200:]}", file=sys.stderr)
        return None
    unfit = {word: graph.unfit[:2] for word, graph in graphs.items() if graph.unfit}
    took = time.monotonic() - started
    print(
        f"{plan.architecture} {plan.variant}: {', '.join(graphs)} {unfit or ''} {took:.1f} s",
        file=sys.stderr,
        flush=True,
    )
    names = _names(specimen)
    return plan, graphs, names, list(_kinds(specimen))


def _variants(name: str, specimen: Specimen, path: Path) -> Iterator[tuple[str, Specimen]]:
    """The file with the optional tensors that most have, then with others of them, and as it is."""
    usual = specimen
    for tensor in USUAL:
        usual = _with(usual, (tensor,), (), path) or usual
    yield name, usual
    for added, instead in OPTIONAL:
        if added == ("attn_qkv.weight",) and specimen.architecture not in FUSED:
            continue  # llama.cpp would take it of all, and no converter writes it
        more = _with(usual, added, instead, path)
        if more is not None:
            yield f"{name}, {added[0].removesuffix('.weight')}", more
    yield f"{name}, least", specimen


def _with(specimen: Specimen, added: tuple[str, ...], instead: tuple[str, ...], path: Path) -> Specimen | None:
    """The file with some tensors more in its layers; None where llama.cpp does not take them."""
    layers = range(len(_names(specimen)))
    inner = {name for each in _names(specimen) for name in each}
    if any(name in inner for name in added) or not all(name in inner for name in instead):
        return None
    kept = {name: shape for name, shape in specimen.tensors.items() if name.split(".", 2)[-1] not in instead}
    more = {f"blk.{layer}.{name}": (1,) for layer in layers for name in added}
    try:
        found = apart(
            lambda: specimens.discovered(
                specimen.architecture, specimen.keys, path, specimens.loads, tensors={**kept, **more}
            )
        )
        apart(lambda: library().graph(path, Asked()))
    except LlamaError:
        return None
    return found


def _new(specimen: Specimen, plan: Plan, seen: set[str]) -> bool:
    """Whether no variant before had the same tensors and what else the graph depends on."""
    layers = [(kind, sorted(names)) for kind, names in zip(_kinds(specimen), _names(specimen), strict=False)]
    mixed = any("_exps." in name for name in specimen.tensors)
    distinct = sorted({json.dumps(layer) for layer in layers})
    same = json.dumps([distinct, layers[-1:], mixed and specimen.keys.get("expert_used_count") == 1, dict(plan.holds)])
    if same in seen:
        return False
    seen.add(same)
    return True


def _specimen(plan: Plan, path: Path) -> Specimen | None:
    """The file of the freest profile that llama.cpp takes, whose graph can be built."""
    refusals: list[str] = []
    for profile in PROFILES:
        try:
            return _loaded(plan, profile, path)
        except LlamaError as error:
            refusals.append(f"{profile}: {str(error).strip()[-120:]}".replace("\n", " "))
    print(f"{plan.architecture} {plan.variant}: no file: {refusals}", file=sys.stderr)
    return None


def _loaded(plan: Plan, profile: str, path: Path) -> Specimen:
    keys = values(plan, profile)
    begun = BEGUN.get(plan.architecture, {})
    tensors = {f"blk.{layer}.{name}": shape for layer in range(keys["block_count"]) for name, shape in begun.items()}
    specimen = apart(lambda: specimens.discovered(plan.architecture, keys, path, specimens.loads, tensors=tensors))
    try:
        apart(lambda: library().graph(path, Asked()))
    except LlamaError as error:
        if "GGML_ASSERT(n_embd" in str(error):
            raise  # sizes that do not go together, and no tensor mends
        specimen = _completed(specimen, path)
        specimen.write(path)
        apart(lambda: library().graph(path, Asked()))
    return specimen


def _completed(specimen: Specimen, path: Path) -> Specimen:
    """The file with all that its layers take of the tensors that a graph may need."""
    for layer, names in enumerate(_names(specimen)):
        for name in NEEDED:
            if name in names:
                continue
            specimen = _taken(specimen, f"blk.{layer}.{name}", path) or specimen
    return specimen


def _taken(specimen: Specimen, name: str, path: Path) -> Specimen | None:
    """The file with a tensor more; None where llama.cpp does not take it."""
    more = {**specimen.tensors, name: (1,)}
    try:
        return apart(
            lambda: specimens.discovered(specimen.architecture, specimen.keys, path, specimens.loads, tensors=more)
        )
    except LlamaError:
        return None


def _kinds(specimen: Specimen) -> tuple[str, ...]:
    """The kind of each layer, as the mapper has it."""
    blocks = specimen.blocks()
    return blocks.kinds if blocks is not None else ()


def _names(specimen: Specimen) -> list[list[str]]:
    """Names of each layer's tensors."""
    found: dict[int, list[str]] = {}
    for name in specimen.tensors:
        if match := re.match(r"blk\.(\d+)\.(.+)", name):
            found.setdefault(int(match[1]), []).append(match[2])
    return [found.get(layer, []) for layer in range(max(found, default=-1) + 1)]


if __name__ == "__main__":
    main()
