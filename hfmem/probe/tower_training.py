"""Writes `hfmem/data/towers_training.jsonl`: what vision towers save for their backward pass, and need while it runs.

    python -m hfmem.probe.tower_training TYPE ...

The real class's `get_image_features` (tower and projector) runs forward and backward at random sizes under the tracer,
with all weights trained, with the projector's alone, and as adapters let gradients through, with and without gradient
checkpointing. Gradients of parameters are left out: they are
counted by their number.
"""

from __future__ import annotations

import gc
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

import torch
import transformers
from torch.utils._pytree import tree_leaves

from hfmem.estimator.activations.coefficients import Moment
from hfmem.estimator.activations.polynomials import Polynomial
from hfmem.mapper.names import meaning
from hfmem.probe import towers
from hfmem.probe.activations.algebra import Solver
from hfmem.probe.activations.flash import fused_attention
from hfmem.probe.activations.tracer import Tracer
from hfmem.probe.tower_inputs import Layout

__all__ = ["MODES", "TARGET", "ends", "handed", "main", "measure", "solve"]

_EMBEDDING: Final = (torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.Linear)

Trained = Literal["all", "projector", "lora"]
"""What is trained: tower and projector, the projector alone, or adapters in both."""

MODES: Final[tuple[tuple[bool, Trained], ...]] = (
    (False, "all"),
    (True, "all"),
    (False, "projector"),
    (False, "lora"),
    (True, "lora"),
)
"""Whether layers are checkpointed, which tells nothing where the tower saves nothing, and what is trained."""

TARGET: Final = Path(__file__).parent.parent / "data" / "towers_training.jsonl"

_Live = frozenset[int]
_Mode = tuple[bool, Trained]


def _traced(mode: _Mode, name: str, config: Any, attention: str, layout: Layout) -> tuple[Tracer, _Live]:
    """Forward and backward; gradients of parameters count as given."""
    checkpointed, trained = mode
    torch.manual_seed(0)
    model = towers.built(getattr(transformers, name), config, attention).train()
    if checkpointed:
        model.gradient_checkpointing_enable()
    anchor = _prepare(model, trained)
    gc.collect()
    tracer = Tracer()
    with fused_attention(), tracer:
        given = tracer.give([*model.parameters(), *model.buffers(), *layout.inputs.values(), anchor])
        tracer.segment = ("forward", 0)
        outputs = handed(towers.features(model)(**layout.inputs))
        gc.collect()
        tracer.segment = ("backward", 0)
        torch.autograd.backward(outputs, _gradients(outputs))
    numbers = (tracer.number(one.grad) for one in model.parameters() if one.grad is not None)
    return tracer, given | frozenset(number for number in numbers if number is not None)


def _prepare(model: Any, trained: Trained) -> torch.Tensor:
    """Freeze what is not trained. Where adapters are, gradients flow from the first layer on, to a tensor that is
    returned; the adapters' own tensors are counted by their sizes."""
    anchor = torch.zeros((), requires_grad=trained == "lora")
    for name, one in model.named_parameters():
        part = meaning(name, one.dim()).component
        one.requires_grad_(trained == "all" or (trained == "projector" and part == "projector"))
    if trained == "projector" and not any(one.requires_grad for one in model.parameters()):
        raise ValueError("there is no projector")
    begun: list[Any] = []

    def begin(module: Any, _inputs: Any, output: Any) -> Any:
        if begun or not isinstance(output, torch.Tensor):
            return output
        begun.append(module)
        return _Begin.apply(anchor, output)

    if trained == "lora":
        for name, module in model.named_modules():
            # what makes patches into states
            if isinstance(module, _EMBEDDING) and meaning(f"{name}.weight", 2).component == "vision":
                module.register_forward_hook(begin)
    return anchor


class _Begin(torch.autograd.Function):  # type: ignore[misc] # PyTorch is untyped here
    """The same states, for which a gradient is asked."""

    @staticmethod
    def forward(_ctx: Any, _anchor: Any, states: Any) -> Any:
        return states.clone()

    @staticmethod
    def backward(_ctx: Any, *gradients: Any) -> Any:
        return gradients[0].new_zeros((), dtype=torch.float32), None


def handed(found: Any) -> list[torch.Tensor]:
    """What a tower hands over to the decoder: the states of its last layer, and of layers within it."""
    names = ("pooler_output", "deepstack_features")
    parts = [part for part in (getattr(found, name, None) for name in names) if part is not None]
    leaves = tree_leaves(parts or [found.last_hidden_state])
    return [one for one in leaves if isinstance(one, torch.Tensor)]


def _gradients(outputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Of each output: parts of one tensor, as the decoder takes the features of all images side by side."""
    first = outputs[0]
    rows = [one.numel() // first.shape[-1] for one in outputs]
    if any(one.shape[-1] != first.shape[-1] or one.dtype != first.dtype for one in outputs):
        return [torch.ones_like(one) for one in outputs]
    parts = torch.ones(sum(rows), first.shape[-1], dtype=first.dtype).split(rows)
    return [part.view(one.shape) for part, one in zip(parts, outputs, strict=True)]


def ends(run: towers.Run) -> tuple[_Live, list[_Live]]:
    """What is alive where the backward pass begins, and at each local peak of it."""
    live: set[int] = set()
    saved: _Live | None = None
    found: dict[_Live, None] = {}
    rising = False
    for allocated, number, segment in run.tracer.events:
        backward = segment[0] == "backward"
        if backward and saved is None:
            saved = frozenset(live - run.given)
        if backward and not allocated and rising:
            found[frozenset(live - run.given)] = None
        rising = allocated
        (live.add if allocated else live.discard)(number)
    return saved or frozenset(), list(found)


def _run(model_type: str, attention: str, mode: _Mode, depth: int, seed: int) -> towers.Run | None:
    try:
        return towers.run(model_type, seed, attention, depth, partial(_traced, mode))
    except towers.REFUSALS:
        return None


def measure(model_type: str, attention: str, mode: _Mode, depth: int, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Sizes, bytes saved, and bytes at the peak of the backward pass."""
    found = []
    for one in filter(None, (_run(model_type, attention, mode, depth, seed) for seed in seeds)):
        saved, peaks = ends(one)
        found.append(
            {"sizes": dict(one.sizes), "saved": one.bytes(saved), "backward": max(map(one.bytes, peaks), default=0)}
        )
    return found


def solve(model_type: str, attention: str, checkpointed: bool, trained: Trained) -> dict[str, Any]:
    """A row of the table.

    Raises:
        ValueError: there are no polynomials that hold.
    """
    runs, deeper = _gathered(model_type, attention, (checkpointed, trained))
    try:
        saved, peaks = _solved(runs)
    except ValueError:
        if not runs[0].extents:
            raise
        runs, deeper = [one.extended() for one in runs], [one.extended() for one in deeper]
        saved, peaks = _solved(runs)
    layer = _scaled(_solved(deeper)[0] - saved, Fraction(1, _FURTHER))
    # a class that needs further layers is counted as if it had as many as the others
    more = _scaled(layer, Fraction(runs[0].depth - towers.DEPTHS[0]))
    row = {
        "type": model_type,
        "attention": attention,
        "checkpointed": checkpointed,
        "trained": trained,
        "packed": runs[0].packed,
        **runs[0].told,
        "saved": str(saved - more),
        "backward": [str(moment.activations - more) for moment in peaks],
        "layer": str(layer),
        "runs": len(runs) - towers.HELD_BACK,
    }
    for one in (*runs, *deeper):
        further = _FURTHER * layer.at(one.sizes) if one in deeper else 0
        seen_saved, seen = ends(one)
        said = max(moment.activations.at(one.sizes) for moment in peaks) + further
        for told, real in ((saved.at(one.sizes) + further, one.bytes(seen_saved)), (said, max(map(one.bytes, seen)))):
            if abs(told / real - 1) > 0.005:
                raise ValueError(f"{told / real - 1:.2%} off")
    return row


_FURTHER: Final = towers.DEPTHS[1] - towers.DEPTHS[0]


def _gathered(model_type: str, attention: str, mode: _Mode) -> tuple[list[towers.Run], list[towers.Run]]:
    """Runs with the same operations, and runs with further layers."""
    less, more = (
        towers.gathered(_run(model_type, attention, mode, depth, seed) for seed in range(towers.MOST))
        for depth in towers.DEPTHS
    )
    return less, more


def _solved(runs: Sequence[towers.Run]) -> tuple[Polynomial, list[Moment]]:
    fit = runs[: -towers.HELD_BACK]
    solver = Solver({name: tuple(one.sizes[name] for one in fit) for name in fit[0].sizes})
    known: dict[int, Polynomial] = {}
    saved, peaks = ends(fit[0])
    totals = dict.fromkeys(towers.total_of(live, fit, solver, known) for live in peaks)
    return towers.total_of(saved, fit, solver, known), towers.tops_of(totals, runs)


def _scaled(found: Polynomial, factor: Fraction) -> Polynomial:
    return Polynomial({names: count * factor for names, count in found.terms.items() if count})


def main() -> int:
    """Measure the types that are named; those that cannot be measured are told, and left out."""
    warnings.simplefilter("ignore")
    gc.freeze()  # what is imported is not searched again in each run
    lines = TARGET.read_text(encoding="utf-8").splitlines()[1:] if TARGET.exists() else []
    rows = {(row["type"], row["attention"], row["checkpointed"], row["trained"]): row for row in map(json.loads, lines)}
    for model_type in sys.argv[1:]:
        for checkpointed, trained in MODES:
            try:
                rows[model_type, "sdpa", checkpointed, trained] = found = solve(
                    model_type, "sdpa", checkpointed, trained
                )
                print(found, flush=True)
            except Exception as error:  # a class may refuse any of this
                mode = f"{trained}{', checkpointed' if checkpointed else ''}"
                print(f"{model_type} {mode}: {type(error).__name__}: {str(error)[:160]}", file=sys.stderr)
        _write(rows)
    return 0


def _write(rows: Mapping[tuple[str, str, bool, str], Mapping[str, Any]]) -> None:
    head = {"source": f"transformers {transformers.__version__}, PyTorch {version('torch').partition('+')[0]}"}
    lines = [json.dumps(row, separators=(",", ":")) for row in (head, *(rows[key] for key in sorted(rows)))]
    TARGET.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
