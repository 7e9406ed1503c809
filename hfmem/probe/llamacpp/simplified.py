"""A graph without its views: which tensors are allocated, what each step reads, and what may take whose place."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from hfmem.probe.llamacpp.library import Graph, Tensor

__all__ = ["Step", "Steps", "simplified"]

# `ggml_op_can_inplace` of ggml-alloc.c
_INPLACE: Final = frozenset(
    (
        "FILL",
        "SCALE",
        "DIAG_MASK_ZERO",
        "DIAG_MASK_INF",
        "ADD",
        "ADD_ID",
        "ADD1",
        "SUB",
        "MUL",
        "DIV",
        "SQR",
        "SQRT",
        "LOG",
        "UNARY",
        "ROPE",
        "ROPE_BACK",
        "SILU_BACK",
        "RMS_NORM",
        "RMS_NORM_BACK",
        "CLAMP",
        "SOFT_MAX",
        "SOFT_MAX_BACK",
    )
)
_VIEWS: Final = frozenset(("NONE", "VIEW", "RESHAPE", "PERMUTE", "TRANSPOSE"))
_WEIGHT: Final = re.compile(r"^(.+?)\.?(weight|bias|scale)?$")
_PLACELESS: Final = ("ROPE", "FLASH_ATTN_EXT")  # their weights are too small to decide where they run


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation, or an input.

    Attributes:
        nbytes: what it allocates; None for one that writes into another's memory.
        reads: the steps whose memory it reads, one for each reading; -1 minus a number for inputs.
        replaces: those of `reads` whose memory it may take, in the order of its sources.
        weights: names of weights that decide where it runs.
        output: whether it is kept to the end.
    """

    name: str
    op: str
    nbytes: int | None
    reads: tuple[int, ...]
    replaces: tuple[int, ...]
    weights: tuple[str, ...]
    cache: int | None
    output: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """A graph: its inputs, which are allocated first, and its steps in order."""

    inputs: tuple[Step, ...]
    steps: tuple[Step, ...]


def simplified(graph: Graph) -> Steps:
    """The graph without views, weights and caches."""
    tensors = graph.tensors
    inputs = [number for number in graph.leafs if not tensors[number].external]
    places = {number: -1 - place for place, number in enumerate(inputs)}
    order = [number for number in graph.nodes if tensors[number].op not in _VIEWS]
    places |= {number: place for place, number in enumerate(order)}

    def root(number: int) -> int:
        view = tensors[number].view
        return number if view is None else root(view)

    def step(number: int) -> Step:
        tensor = tensors[number]
        own = tensor.view is None
        roots = [(source, root(source)) for source in tensor.sources]
        return Step(
            name=tensor.name,
            op=tensor.op,
            nbytes=tensor.nbytes if own else None,
            reads=tuple(places[origin] for _, origin in roots if not tensors[origin].external),
            replaces=_replaced(tensor, tensors, places) if own else (),
            weights=_weights(tensor, tensors),
            cache=_cache(tensors, [root(number), *(origin for _, origin in roots)]),
            output=tensor.is_output,
        )

    steps = _collapsed([step(number) for number in order])
    return Steps(inputs=tuple(step(number) for number in inputs), steps=steps)


def _collapsed(steps: list[Step]) -> tuple[Step, ...]:
    """Without all but the first of additions that sum up parts of one tensor in one place: as many as experts per
    token, all in the memory of the first."""
    readers: dict[int, int] = {}
    for step in steps:
        for read in step.reads:
            readers[read] = readers.get(read, 0) + 1
    kept: list[Step] = []
    places: dict[int, int] = {}
    for number, step in enumerate(steps):
        before = number - 1
        chained = (
            step.op == "ADD"
            and before in places
            and steps[before].op == "ADD"
            and step.replaces == (before,)
            and readers[before] == 1
            and step.reads[0] == before
            and len(step.reads) == 2
            and step.reads[1] in steps[before].reads
        )
        if not chained:
            kept.append(
                replace(
                    step,
                    reads=tuple(places.get(read, read) for read in step.reads),
                    replaces=tuple(places.get(read, read) for read in step.replaces),
                )
            )
        places[number] = len(kept) - 1
    return tuple(kept)


def _replaced(tensor: Tensor, tensors: tuple[Tensor, ...], places: dict[int, int]) -> tuple[int, ...]:
    if tensor.op not in _INPLACE:
        return ()
    return tuple(
        places[source]
        for source in tensor.sources
        if source in places
        and tensors[source].view is None
        and not tensors[source].is_output
        and tensors[source].layout == tensor.layout
    )


def _weights(tensor: Tensor, tensors: tuple[Tensor, ...]) -> tuple[str, ...]:
    if tensor.op in _PLACELESS:
        return ()
    found = (tensors[source] for source in tensor.sources)
    return tuple(source.name for source in found if source.external and _of_cache(source.name) is None)


def _of_cache(name: str) -> int | None:
    match = re.match(r"(?:cache_\w*?l|mamba_\w+?_states?-)(\d+)", name)  # PLaMo-2 gives its states names of its own
    return int(match[1]) if match else None


def _cache(tensors: tuple[Tensor, ...], numbers: list[int]) -> int | None:
    """The layer whose cache a step reads or writes."""
    layers = (_of_cache(tensors[number].name) for number in numbers if tensors[number].external)
    return next((layer for layer in layers if layer is not None), None)
