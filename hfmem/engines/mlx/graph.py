"""MLX's lazy arrays, and the order in which an evaluation computes them.

A graph has one `Node` per array. `tape` is the order of `eval_impl` (mlx 0.32, mlx/transforms.cpp): breadth first from
the outputs with a limited width, computed from the back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["Node", "leaf", "tape"]

_WIDTH: Final = 20  # bfs_max_width of mlx/utils.h


@dataclass(eq=False, slots=True)
class Node:
    """An array.

    Attributes:
        inputs: the arrays that it is computed from; empty for an array that exists already.
        nbytes: its size; for a view, that of the array it shares memory with.
        elements: its elements, as Metal counts them for the size of a command buffer (`data_size`).
        donors: numbers of the inputs whose memory it may take over.
        view: whether it shares the memory of its first input.
        kernels: kernels that compute it; 0 for a view.
        scratch: bytes of temporaries while it is computed.
        held: whether Python or the cache holds it.
        free: whether its memory is not counted: weights, which are counted on their own.
        item: bytes per element, of an array that exists already.
    """

    inputs: tuple[Node, ...]
    nbytes: int
    elements: int
    donors: tuple[int, ...] = ()
    view: bool = False
    kernels: int = 1
    scratch: int = 0
    held: bool = False
    free: bool = False
    item: int = 0


def leaf(elements: int, item: int, *, free: bool = False) -> Node:
    """An array that exists before the evaluation, and is held."""
    return Node(inputs=(), nbytes=elements * item, elements=elements, held=True, free=free, kernels=0, item=item)


def tape(outputs: Sequence[Node], done: set[int]) -> list[Node]:
    """The arrays that an evaluation of `outputs` computes, in its order.

    Args:
        outputs: the arrays that are asked for.
        done: ids of arrays that were computed before.
    """
    root = Node(inputs=tuple(outputs), nbytes=0, elements=0)
    uses = _uses(root, done)
    found, deferred, at = [root], list[tuple[Node, int]](), 0
    while at < len(found) or deferred:
        if at >= len(found):
            node, start = deferred.pop()
        else:
            node, start, at = found[at], 0, at + 1
        for number in range(start, len(node.inputs)):
            source = node.inputs[number]
            if not source.inputs or id(source) in done:
                continue
            if len(found) - at >= _WIDTH:
                deferred.append((node, number))
                break
            uses[id(source)] -= 1
            if not uses[id(source)]:
                found.append(source)
    return found[:0:-1]


def _uses(root: Node, done: set[int]) -> Counter[int]:
    """How often each array is an input, over everything that is computed."""
    uses: Counter[int] = Counter()
    waiting, seen = [root], {id(root)}
    while waiting:
        node = waiting.pop()
        if id(node) in done:
            continue
        for source in node.inputs:
            uses[id(source)] += 1
            if id(source) not in seen:
                seen.add(id(source))
                waiting.append(source)
    return uses
