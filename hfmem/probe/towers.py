"""Writes `hfmem/data/towers.jsonl`: what the vision towers of the installed transformers need for a forward pass.

    python -m hfmem.probe.towers [TYPE ...]

The real class's `get_image_features` (tower and projector) is run at a dozen random sizes under the tracer; each
storage is recognised as a polynomial in the sizes, and the moments that can be the peak are kept. Runs that do not
determine the polynomials are refused. Two runs, of the most patches, are no part of the fit, and verify it.
"""

from __future__ import annotations

import gc
import inspect
import json
import random
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import torch
import transformers

from hfmem.estimator.activations.coefficients import Moment
from hfmem.estimator.activations.polynomials import Polynomial
from hfmem.estimator.activations.towers import MEASURED_DEPTH, highest_of
from hfmem.mapper.media.towers import FEATURES, taken_of
from hfmem.probe import tiny
from hfmem.probe.activations.algebra import Solver, TensorRecord
from hfmem.probe.activations.flash import fused_attention
from hfmem.probe.activations.moments import highest
from hfmem.probe.activations.tracer import Tracer
from hfmem.probe.design import undetermined
from hfmem.probe.tower_inputs import Layout, layouts
from hfmem.probe.tower_sizes import choose_layers, chosen_layers, resize, resize_projector, resize_queries

__all__ = [
    "DEPTHS",
    "FEWEST",
    "HELD_BACK",
    "MOST",
    "PICTURES",
    "REFUSALS",
    "RUNS",
    "SOUND",
    "TARGET",
    "Attempt",
    "Run",
    "Trace",
    "alike",
    "built",
    "features",
    "gathered",
    "main",
    "parameters_of",
    "record",
    "run",
    "solve",
    "tensor_of",
    "told_of",
    "tops_of",
    "total_of",
    "traced",
    "tried",
]

TARGET: Final = Path(__file__).parent.parent / "data" / "towers.jsonl"

RUNS: Final = 12
HELD_BACK: Final = 2
MOST: Final = 4 * RUNS
"""Sizes that are tried where those before do not determine polynomials."""

FEWEST: Final = 7
_IMAGES: Final = 3
"""Numbers of images that runs must have, where images are not one sequence."""

_LAYOUTS: Final = 8
_COMBINED: Final = 200
_FIXED: Final = 64  # bytes for each patch: positions and weights of an interpolation
DEPTHS: Final = (MEASURED_DEPTH, MEASURED_DEPTH + 2)
_TINY: Final = 4096  # bytes; a storage up to this size counts as constant: positions, lengths of sequences
REFUSALS: Final = (ValueError, RuntimeError, IndexError, AssertionError, TypeError, AttributeError)
"""What a class raises for sizes, or a layout, that it does not take."""

PICTURES: Final = ("get_image_features", "get_video_features")
SOUND: Final = ("get_audio_features",)
"""Methods that run a tower and its projector."""

_Live = frozenset[int]
Trace = Callable[[str, Any, str, Layout], tuple[Tracer, _Live]]
"""Runs a class on inputs: its config, its attention, the inputs; what was allocated, and what was given."""

Attempt = Callable[[str, int, str, int], "Run | None"]
"""Runs a type at the sizes of a seed, with an attention and a number of layers; None where the class refuses them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One forward pass of a tower.

    Attributes:
        seed: of its random sizes.
        tracer: what was allocated and freed.
        given: storages of weights and inputs.
        sizes: by name; `b` images (or tiles) of `s` patches with `pixels` values each, `out` features of the decoder.
        packed: whether all images are one sequence of patches.
        handed: states of each token that the decoder is handed: of the tower, and of layers within it.
        extents: further sizes, which are for the tensors that these do not explain.
        depth: layers of the tower.
        told: what a config must have in common with the one that runs (`told_of`).
    """

    seed: int
    tracer: Tracer
    given: _Live
    sizes: Mapping[str, int]
    packed: bool
    handed: int
    extents: Mapping[str, int]
    depth: int
    told: Mapping[str, Any]

    def extended(self) -> Run:
        """The same with its further sizes among the others."""
        return replace(self, sizes={**self.sizes, **self.extents})

    def moments(self) -> list[_Live]:
        """The storages alive at each local peak, without those that were given."""
        live: set[int] = set()
        found: dict[_Live, None] = {}
        rising = False
        for allocated, number, _ in self.tracer.events:
            if not allocated and rising:
                found[frozenset(live - self.given)] = None
            rising = allocated
            (live.add if allocated else live.discard)(number)
        return list(found)

    def bytes(self, live: _Live) -> int:
        """Bytes of some storages."""
        return sum(self.tracer.allocations[number].nbytes for number in live)

    def peak(self) -> int:
        """Bytes at the highest moment."""
        return max(self.bytes(live) for live in self.moments())


def run(model_type: str, seed: int, attention: str, depth: int = DEPTHS[0], trace: Trace | None = None) -> Run:
    """A forward pass at random sizes, or what `trace` runs instead."""
    name = tiny.GROUPS["image-text"][model_type]
    config, sizes, rng, layers = _resized(model_type, name, seed, depth)
    vision = config.vision_config
    state = rng.getstate()
    refusal: Exception = ValueError("no layout of its inputs is known")
    for number in range(_LAYOUTS):
        rng.setstate(state)  # each layout is made of the same sizes
        layout = next(islice(layouts(parameters_of(name), config, vision, rng), number, None), None)
        if layout is None:
            break
        try:
            tracer, given = (trace or traced)(name, config, attention, layout)
        except REFUSALS as error:
            refusal = error if number == 0 else refusal
            continue
        sizes |= {**layout.counts, "out": config.get_text_config().hidden_size}
        return Run(
            seed=seed,
            tracer=tracer,
            given=given,
            sizes=sizes,
            packed=layout.packed,
            handed=_handed(config),
            extents=layout.extents,
            depth=layers,
            told=told_of(config, layers),
        )
    raise refusal


def told_of(config: Any, layers: int) -> dict[str, Any]:
    """Of how many layers the projector takes the states, and how many last ones run for nothing, where a config tells
    that; and the type of the tower, where the class takes any."""
    told: dict[str, Any] = {}
    chosen = next((getattr(config, key) for key in FEATURES if getattr(config, key, None) is not None), None)
    if chosen is not None:
        several = isinstance(chosen, (list, tuple))
        told |= dict(zip(("taken", "unused"), taken_of(chosen if several else (chosen,), layers), strict=True))
    if config.sub_configs.get("vision_config") is transformers.AutoConfig:
        told["tower"] = config.vision_config.model_type
    return told


def _resized(model_type: str, name: str, seed: int, depth: int) -> tuple[Any, dict[str, int], random.Random, int]:
    """A config with random sizes, these sizes, where further ones are drawn from, and the tower's layers."""
    rng = random.Random(f"{model_type} {seed}")  # noqa: S311 - sizes, no secrets
    config = tiny.build(_small(model_type, name))
    if config.vision_config is None:
        config.vision_config = config.sub_configs["vision_config"]()
    vision, text = config.vision_config, config.get_text_config()
    # as many layers as are asked for their states, which are kept, and others are not; the embedding's is in any case
    depth = max(depth, *(len(chosen) + 1 + depth - DEPTHS[0] for chosen in chosen_layers(config).values()), 1)
    # a state that a layer hands over counts from the next one on
    layers = depth + hasattr(vision, "deepstack_visual_indexes")
    sizes = resize(vision, rng, layers)
    if "mrope_section" in (getattr(text, "rope_parameters", None) or {}):  # it divides the heads' width as it is
        text.head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    text.hidden_size = 16 * rng.randrange(3, 14)
    if hasattr(config, "hidden_size"):
        config.hidden_size = text.hidden_size
    # where a tower has a width of its own under another key, this one is the decoder's
    own = ("hidden_size",) if hasattr(vision, "embed_dim") else ()
    outward = ("out_hidden_size", "text_hidden_size", "projection_dim", *own)
    for key in outward:
        if hasattr(vision, key):
            setattr(vision, key, text.hidden_size)
    if hasattr(config, "projection_dim"):
        config.projection_dim = text.hidden_size
    sizes |= resize_projector(config, rng)
    sizes |= resize_queries(config, random.Random(f"{model_type} {seed} queries"))  # noqa: S311 - sizes, no secrets
    choose_layers(config, depth)
    return config, sizes, rng, layers


def _handed(config: Any) -> int:
    """States of each token that the decoder is handed."""
    within = (config.vision_config, "deepstack_visual_indexes"), (config, "deepstack_layer_map")
    last = len(getattr(config, "spatial_target_layers", None) or ()) or 1
    return last + sum(len(getattr(part, key, None) or ()) for part, key in within)


def parameters_of(name: str, names: Sequence[str] = PICTURES) -> list[str]:
    """Of the first method of these names, of the class and of its model, to which it may only hand them on."""
    outer = getattr(transformers, name)
    inner = getattr(sys.modules[outer.__module__], name.replace("ForConditionalGeneration", "Model"), None)
    both = ([getattr(one, each, None) for one in (outer, inner)] for each in names)
    methods = next(filter(any, both), [])
    return [parameter for one in methods if one for parameter in inspect.signature(one).parameters]


def features(model: Any) -> Any:
    """The method that runs tower and projector, of pictures (for frames, where it takes only them) or of sound: of the
    class, or of its model. A class that has none runs up to its decoder."""
    places = (model, getattr(model, "model", None))
    named = (getattr(place, name, None) for name in (*PICTURES, *SOUND) for place in places)
    return next(filter(None, named), None) or partial(_up_to_decoder, model)


class _ReachedError(Exception):
    """The decoder was called."""


def _up_to_decoder(model: Any, **inputs: Any) -> Any:
    """What a decoder is given."""

    def reached(*_args: Any, **kwargs: Any) -> Any:
        raise _ReachedError(kwargs["inputs_embeds"])

    inner = getattr(model, "model", model)
    decoder = getattr(inner, "language_model", None)
    if decoder is None:
        raise AttributeError(f"{type(model).__name__} has none of {', '.join((*PICTURES, *SOUND))}")
    with patch.object(decoder, "forward", reached):
        try:
            inner(**inputs)
        except _ReachedError as found:
            return found.args[0]
    raise ValueError("the decoder was not called")


def traced(name: str, config: Any, attention: str, layout: Layout) -> tuple[Tracer, _Live]:
    """What a forward pass allocates, and the storages that were given."""
    torch.manual_seed(0)
    model = built(getattr(transformers, name), config, attention).eval()
    gc.collect()
    tracer = Tracer()
    with torch.no_grad(), fused_attention(), tracer:
        given = tracer.give([*model.parameters(), *model.buffers(), *layout.inputs.values()])
        tracer.segment = ("before", 0)
        kept = features(model)(**layout.inputs)
    del kept
    return tracer, given


def built(kind: Any, config: Any, attention: str) -> Any:
    """The model; a class without SDPA runs eagerly where it is not told otherwise."""
    supported = attention != "sdpa" or getattr(kind, "_supports_sdpa", False)
    how = attention if supported else "eager"
    return kind._from_config(config, dtype=torch.bfloat16, attn_implementation=how)


@cache
def _small(model_type: str, name: str) -> Mapping[str, Any]:
    return tiny.shrunk(model_type, name)


def solve(model_type: str, attention: str, attempt: Attempt | None = None) -> dict[str, Any]:
    """A row of the table, from runs that `attempt` makes: `tried`, where it is not given.

    Raises:
        ValueError: there are no polynomials that hold.
    """
    attempt = attempt or tried
    runs = gathered(attempt(model_type, seed, attention, DEPTHS[0]) for seed in range(MOST))
    deeper = partial(_deeper, attempt, model_type, attention)
    try:
        return _row(model_type, attention, runs, deeper)
    except ValueError:
        if not runs[0].extents:
            raise
    return _row(model_type, attention, [one.extended() for one in runs], deeper)


def _deeper(attempt: Attempt, model_type: str, attention: str, seed: int) -> int:
    """Bytes at the peak with further layers."""
    found = attempt(model_type, seed, attention, DEPTHS[1])
    if found is None:
        raise ValueError("the class does not take more layers")
    return found.peak()


def _row(model_type: str, attention: str, runs: Sequence[Run], deeper: Callable[[int], int]) -> dict[str, Any]:
    fit = runs[:-HELD_BACK]
    solver = Solver({name: tuple(one.sizes[name] for one in fit) for name in fit[0].sizes})
    tops = fit[0].moments()
    known: dict[int, Polynomial] = {}
    totals = dict.fromkeys(total_of(live, fit, solver, known) for live in tops)
    tops_of_all = tops_of(totals, runs)
    _no_fixed_widths(tops_of_all, packed=fit[0].packed)
    row = {
        "type": model_type,
        "attention": attention,
        "packed": fit[0].packed,
        **fit[0].told,
        "peaks": [str(moment.activations) for moment in tops_of_all],
        "handed": fit[0].handed,
        "layer": str(_growth(solver, fit, deeper)),
        "runs": len(fit),
    }
    off = max(abs(highest_of(row, one.sizes, MEASURED_DEPTH)[1] / one.peak() - 1) for one in runs)
    if off > 0.005:
        raise ValueError(f"{off:.2%} off")
    return {**row, "off": round(off, 6)}


def gathered(tried_runs: Iterable[Run | None]) -> list[Run]:
    """Runs with the same operations, as many as determine the polynomials, those of the most patches last: a dozen are
    tried, or more where these do not do.

    Raises:
        ValueError: the runs that the class takes determine no polynomials.
    """
    found: list[Run] = []
    reason = "no runs"
    for count, one in enumerate(tried_runs, 1):
        found += [one] if one is not None else []
        if count < RUNS or count % 2:
            continue
        if not found:
            break
        runs = sorted(alike(found), key=lambda run: (run.sizes["b"] * run.sizes["s"], run.seed))
        reason = _undetermined(runs, found)
        if not reason:
            return runs
    raise ValueError(reason)


def _undetermined(runs: Sequence[Run], found: Sequence[Run]) -> str:
    """Why some runs with the same operations do not determine polynomials; "" where they do."""
    if len(runs) < FEWEST:
        return f"{len(runs)} of {len(found)} runs are alike"
    fit = runs[:-HELD_BACK]
    images = {one.sizes["b"] for one in fit}
    if not runs[0].packed and len(images) < min(_IMAGES, len({one.sizes["b"] for one in found})):
        return f"all runs that are alike have {' or '.join(map(str, sorted(images)))} images"
    together = undetermined([one.sizes for one in fit], [one.sizes for one in found])
    return f"{len(fit)} runs do not tell apart {', '.join(together)}" if together else ""


def tops_of(totals: Mapping[Polynomial, None], runs: Sequence[Run]) -> list[Moment]:
    """The moments that can be the peak at sizes of real models, and at small ones: those of the runs, combined anew."""
    found = [Moment(activations=total, gradients=Polynomial({})) for total in totals]
    rng = random.Random(0)  # noqa: S311 - sizes, no secrets
    drawn = [{name: rng.choice(runs).sizes[name] for name in runs[0].sizes} for _ in range(_COMBINED)]
    sizes = [*(one.sizes for one in runs), *drawn]
    here = (max(found, key=lambda moment: moment.activations.at(each)) for each in sizes)
    return list(dict.fromkeys((*highest(found), *here)))


def _no_fixed_widths(tops: Sequence[Moment], *, packed: bool) -> None:
    """A number of bytes for each patch that no size explains is a width of the config that was not varied."""
    for moment in tops:
        for names, count in moment.activations.terms.items():
            if names.count("b") > 1 and not packed:
                raise ValueError(f"{'*'.join(names)}: images do not multiply each other")
            if names and set(names) <= {"b", "s"} and count > _FIXED:
                raise ValueError(f"{count} bytes for each {'*'.join(names)}: a size of the config that was not varied")


def tried(model_type: str, seed: int, attention: str, depth: int = DEPTHS[0]) -> Run | None:
    """A forward pass at random sizes; None where the class does not take them together."""
    try:
        return run(model_type, seed, attention, depth)
    except REFUSALS:
        return None


def alike(runs: Sequence[Run]) -> list[Run]:
    """The most runs with the same operations: of several images, if a class copies what it does not copy of one."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for one in runs:
        groups.setdefault(tuple(allocation.op for allocation in one.tracer.allocations), []).append(one)
    several = any(one.sizes["b"] > 1 for one in runs)
    varied = [found for found in groups.values() if len({one.sizes["b"] for one in found}) > 1 or not several]
    return max(varied or groups.values(), key=len, default=[])


def total_of(live: _Live, fit: Sequence[Run], solver: Solver, known: dict[int, Polynomial]) -> Polynomial:
    found = Polynomial({})
    for number in live:
        if number not in known:
            known[number] = tensor_of(number, fit, solver)
        found += known[number]
    return found


def tensor_of(number: int, fit: Sequence[Run], solver: Solver) -> Polynomial:
    seen = [one.tracer.allocations[number] for one in fit]
    record = TensorRecord(
        nbytes=tuple(one.nbytes for one in seen), shapes=tuple(one.shape for one in seen), itemsize=seen[0].itemsize
    )
    found = solver.tensor(record)
    if found is None:
        if max(record.nbytes) > _TINY:
            raise ValueError(f"{seen[0].op} {seen[0].shape} at {seen[0].site} is no product of sizes")
        return Polynomial.constant(max(record.nbytes))
    return found


def _growth(solver: Solver, fit: Sequence[Run], deeper: Callable[[int], int]) -> Polynomial:
    """Bytes of the peak for each further layer: the states of all layers, where a class keeps them."""
    step = DEPTHS[1] - DEPTHS[0]
    grown = [(deeper(one.seed) - one.peak()) // step for one in fit]
    if not any(grown):
        return Polynomial({})
    found = solver.tensor(TensorRecord(nbytes=tuple(grown), shapes=tuple((n,) for n in grown), itemsize=1))
    units = [2 * one.sizes["b"] * one.sizes["hidden"] for one in fit]
    if found is None and not any(n % unit for n, unit in zip(grown, units, strict=True)):  # patches and a class token
        shapes = tuple((n // unit, unit // 2) for n, unit in zip(grown, units, strict=True))
        found = solver.tensor(TensorRecord(nbytes=tuple(grown), shapes=shapes, itemsize=2))
    if found is None:
        raise ValueError("what a further layer adds is no product of sizes")
    return found


def record(target: Path, types: Iterable[str], solved: Callable[[str, str], dict[str, Any]]) -> int:
    """Measure some types; those that cannot be measured are told, and left out."""
    warnings.simplefilter("ignore")
    gc.freeze()  # what is imported is not searched again in each run
    lines = target.read_text(encoding="utf-8").splitlines()[1:] if target.exists() else []
    rows = {(row["type"], row["attention"]): row for row in map(json.loads, lines)}
    for model_type in types:
        for attention in ("sdpa", "eager"):
            try:
                rows[model_type, attention] = solved(model_type, attention)
                print(model_type, attention, rows[model_type, attention]["peaks"], flush=True)
            except Exception as error:  # a class may refuse any of this
                print(f"{model_type} {attention}: {type(error).__name__}: {str(error)[:160]}", file=sys.stderr)
                break
        _write(target, rows)
    return 0


def _write(target: Path, rows: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
    head = {"source": f"transformers {transformers.__version__}, PyTorch {version('torch').partition('+')[0]}"}
    lines = [json.dumps(row, separators=(",", ":")) for row in (head, *(rows[key] for key in sorted(rows)))]
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    """Measure the types that are named, or all."""
    return record(TARGET, sys.argv[1:] or sorted(tiny.GROUPS["image-text"]), solve)


if __name__ == "__main__":
    sys.exit(main())
