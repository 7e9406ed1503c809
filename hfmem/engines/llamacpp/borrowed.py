"""What the steps of a layer read of caches and states that stay on the host (`--no-kv-offload`), and what they read of
others by views: ggml copies each view for itself, in its own extent (`ggml_backend_sched_split_graph`).
"""

from __future__ import annotations

from typing import Final

from hfmem.engines.llamacpp.caches import Sides
from hfmem.engines.llamacpp.graphs import RecordedStep

__all__ = ["Borrowed", "span"]

_FLASH: Final = "FLASH_ATTN_EXT"
_MATRIX: Final = "MUL_MAT"
_INDEXER: Final = "LIGHTNING_INDEXER"
_GATHERS: Final = "GET_ROWS"
RECURRENT: Final = ("SSM_SCAN", "GATED_DELTA_NET", "GATED_LINEAR_ATTN", "RWKV_WKV6", "RWKV_WKV7")
"""Operations whose result is what comes out, and the new state after it."""


class Borrowed:
    """The caches of one layer, which its steps read one after the other.

    Args:
        layer: its number.
        sides: of its caches.
        indexed: whether an indexer reads keys of its own by a product, before attention does.
    """

    def __init__(self, layer: int, sides: Sides, *, indexed: bool) -> None:
        self.layer, self.sides = layer, sides
        values = (sides.values or sides.part) and ("values", sides.values or sides.part)
        index = [("index", sides.index)] if indexed and sides.index else []
        self._left = [*index, ("keys", sides.keys), *([values] if values else [])]
        self._state = 0
        self._count = 0

    def read(self, step: RecordedStep) -> tuple[tuple[str, int], ...]:
        """Names and bytes of what a step reads of them: keys and values at once, or one after the other without flash
        attention."""
        if not step.cached or step.size == "-" or step.ahead:
            return ()
        found = self._taken(step)
        self._count += 1
        return tuple((f"cache {self.layer} {name} {self._count}", size) for name, size in found if size)

    def _taken(self, step: RecordedStep) -> list[tuple[str, int]]:
        if step.operation == _FLASH:
            return [each for each in self._left if each[0] != "index"]
        if step.operation == _MATRIX:
            return [self._left.pop(0)] if self._left else []
        if step.operation == _INDEXER:
            return [("index", self.sides.index)]
        if step.operation in RECURRENT:
            self._state = self.sides.state
        return [("state", self._state)]


def span(whole: int, rows: int, part: int) -> int:
    """Bytes of a view of some elements of each row, from the first of them to the last.

    Args:
        whole: bytes of all rows.
        rows: how many there are.
        part: bytes of the elements in each.
    """
    return whole if part * rows >= whole else whole - whole // rows + part
