"""The LM head and loss of TRL's trainers, which run in tiles: `ChunkedLogProbFunction`, trl 1.16.0.

A tile has at most 4,096 tokens by 32,768 entries of the vocabulary, in one buffer for all tiles, which is that wide
even for a smaller vocabulary. Weights that are not in the compute dtype are cast tile by tile. The backward pass
sums the gradients of the hidden states, and of a trained head, in float32, and casts them at its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["SOURCE", "TiledHead"]

SOURCE: Final = "trl 1.16.0, kernels/chunked_logprob.py:31 (tokens), 331-470, trainer/utils.py:1506 (entries)"
_TOKENS: Final = 4096
_ENTRIES: Final = 32_768
_STATISTICS: Final = 7 * 4  # seven float32 values per token


@dataclass(frozen=True, slots=True, kw_only=True)
class TiledHead:
    """The head for a batch.

    Attributes:
        scored: tokens that are scored, which alone reach the head.
        hidden, vocabulary: sizes of the head.
        weight: bytes per element of its weights, and of the hidden states.
        compute: bytes per element of the compute dtype.
        trained: whether it gets a gradient.
    """

    scored: int
    hidden: int
    vocabulary: int
    weight: int
    compute: int
    trained: bool

    @property
    def _tokens(self) -> int:
        return min(self.scored, _TOKENS)

    @property
    def _buffer(self) -> int:
        """The tile, the scored hidden states, their cast, and the statistics."""
        cast = 0 if self.weight == self.compute else self._tokens * self.hidden * self.compute
        own = self.scored * (self.hidden * self.weight + _STATISTICS)
        return own + cast + self._tokens * _ENTRIES * self.compute

    @property
    def _casts(self) -> tuple[int, ...]:
        """Bytes of the cast of each tile's weights."""
        if self.weight == self.compute:
            return (0,)
        sizes = [min(_ENTRIES, self.vocabulary - start) for start in range(0, self.vocabulary, _ENTRIES)]
        return tuple(size * self.hidden * self.compute for size in sizes)

    @property
    def forward(self) -> int:
        """Bytes at the peak of the forward pass, on top of what the layers and the last norm save."""
        return self._buffer + max(self._casts)

    @property
    def backward(self) -> int:
        """Bytes at the peak of the backward pass, on top of the same, with the gradient of the head."""
        gradients = 4 * self.scored * self.hidden + (4 * self.vocabulary * self.hidden if self.trained else 0)
        casts = self._casts
        later = casts[1:] + (casts[:1] if self.scored > _TOKENS else ())
        pair = max((one + other for one, other in zip(casts, later, strict=False)), default=casts[0])
        narrow = 0  # casts of the sums, while these are still alive
        if self.weight < 4:
            narrow = self.weight * self.hidden * (self.scored + (self.vocabulary if self.trained else 0))
        return self._buffer + gradients + max(pair, casts[-1] + narrow)

    @property
    def how(self) -> str:
        """The arithmetic in words."""
        sums = f", float32 gradients of {self.scored:,} × {self.hidden:,}"
        sums += f" and {self.vocabulary:,} × {self.hidden:,}" if self.trained else ""
        return f"{self.scored:,} tokens in tiles of {self._tokens:,} × {_ENTRIES:,} × {self.compute} B{sums}"
