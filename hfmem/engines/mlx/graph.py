"""MLX's lazy arrays, and the order in which an evaluation computes them.

A graph has one `Node` per array. `tape` is the order of `eval_impl` (mlx 0.32, mlx/transforms.cpp): breadth first from
the outputs with a limited width, computed from the back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

__all__ = ["Memory", "Node", "leaf", "tape", "together", "weight"]

_WIDTH: Final = 20  # bfs_max_width of mlx/utils.h


@dataclass(eq=False, slots=True)
class Memory:
    """Memory of one or more arrays, freed with the last user.

    Attributes:
        nbytes: its size.
        users: arrays in it, and unfinished tasks that touch it, each as often as it does.
        task: the last task of which a kernel read or wrote it.
    """

    nbytes: int
    users: int
    task: object = None


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
        free: whether it is a weight: its memory is counted on its own, and it is read once.
        item: bytes per element, of an array that exists already.
        twin: the array that is computed together with it, by the same operation; None for none.
        others: arrays that are computed together with it.
        uses: how often a tape still needs it, while the tape is made.
        pending: how often it is still to be read.
        done: whether it exists.
        memory: its memory; None as long as it is not allocated, and after it was freed.
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
    twin: Node | None = None
    others: tuple[Node, ...] = ()
    uses: int = 0
    pending: int = 0
    done: bool = False
    memory: Memory | None = None


def together(node: Node, elements: int, item: int) -> Node:
    """A second output of the operation that computes an array."""
    other = Node(inputs=node.inputs, nbytes=elements * item, elements=elements, kernels=0, twin=node)
    node.others = (*node.others, other)
    return other


def leaf(elements: int, item: int) -> Node:
    """An array that exists before the evaluation, and is held."""
    return Node((), elements * item, elements, held=True, kernels=0, item=item, done=True)


@lru_cache(maxsize=4096)
def weight(elements: int, item: int) -> Node:
    """A weight. Weights of one size are one node, as nothing is noted of them."""
    return Node((), elements * item, elements, held=True, free=True, kernels=0, item=item, done=True)


def tape(outputs: Sequence[Node]) -> list[Node]:
    """The arrays that an evaluation of `outputs` computes, in its order; counts how often each array will be read."""
    root = Node(inputs=tuple(outputs), nbytes=0, elements=0)
    _count_uses(root)
    found, deferred, at = [root], list[tuple[Node, int]](), 0
    while at < len(found) or deferred:
        if at >= len(found):
            node, start = deferred.pop()
        else:
            node, start, at = found[at], 0, at + 1
        for number in range(start, len(node.inputs)):
            source = node.inputs[number]
            if source.done:
                continue
            if len(found) - at >= _WIDTH:
                deferred.append((node, number))
                break
            source = source.twin or source
            source.uses -= 1
            if not source.uses:
                found.append(source)
    return found[:0:-1]


def _count_uses(root: Node) -> None:
    """How often each array is an input, over everything that is computed."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        for each in node.inputs:
            if each.free:
                continue
            if node is not root:
                each.pending += 1
            if each.done:
                continue
            source = each.twin or each
            source.uses += 1
            if source.uses == 1:
                waiting.append(source)
