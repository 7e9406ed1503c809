"""The lookup keys of measured coefficients, and the sizes to evaluate them with.

Type names, switched keys and layer signatures are opaque labels here: users of this module compare and display them,
and do not parse them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from hfmem.mapper.attention import implementations
from hfmem.mapper.caches import Combined, Latent
from hfmem.mapper.sizes import (
    configured_sizes,
    decides,
    model_types,
    part_sizes,
    signature,
    switched_structure,
    token_sizes,
)
from hfmem.mapper.values import Architecture, Dense, Experts, Implementations, Layer

__all__ = ["Structure", "alike", "nearest"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """A model's lookup keys and sizes, computed on first use; compared by identity.

    Attributes:
        config: the config.
        architecture: layers and sizes.
    """

    config: Mapping[str, Any]
    architecture: Architecture

    @cached_property
    def own(self) -> tuple[str, ...]:
        """Labels of its type, the most specific first: type and class, type of the whole, type of the text model."""
        types = model_types(self.config)
        classes = self.architecture.architectures[:1]
        return (*(f"{model_type}:{name}" for model_type in types for name in classes), *types)

    @cached_property
    def implementations(self) -> Implementations:
        """The attention implementations that its classes support."""
        return implementations(model_types(self.config))

    @cached_property
    def relatives(self) -> tuple[str, ...]:
        """Types with similar attention and feed-forward networks, which stand in if its own type was not measured."""
        layers = self.architecture.layers or ()
        caches = [
            part
            for layer in layers
            for part in (layer.cache.caches if isinstance(layer.cache, Combined) else [layer.cache])
        ]
        if any(isinstance(cache, Latent) for cache in caches):
            return ("deepseek_v3", "llama")
        if any(isinstance(layer.ffn, Experts) for layer in layers):
            return ("qwen2_moe", "mixtral", "llama")
        gated = any(isinstance(layer.ffn, Dense) and layer.ffn.gated for layer in layers)
        return ("llama",) if gated else ("gpt_neox", "llama")

    @cached_property
    def switched(self) -> tuple[str, ...]:
        """Config keys that differ from the class's defaults, and may change what layers compute."""
        return switched_structure(self.config)

    @cached_property
    def telling(self) -> frozenset[str]:
        """Those of `switched` that are known by name to change what layers compute."""
        return frozenset(key for key in self.switched if decides(key))

    @cached_property
    def windows(self) -> tuple[int, ...]:
        """All windows and other limits of attention, in tokens. If all are longer than the input, attention needs no
        mask (`_ignore_causal_mask_sdpa` in masking_utils.py)."""
        own = [getattr(layer.cache, "window", None) for layer in self.architecture.layers or ()]
        others = (self._configured.get(name) for name in _BOUNDS)
        return tuple({window for window in (*own, *others) if window})

    def hears_whole(self, source: int) -> bool:
        """Whether an encoder that attends in blocks attends to all of so many tokens instead, as it does where the
        blocks that it would attend to cover them (BigBirdPegasusEncoder.forward: two global blocks, three sliding ones,
        and twice the random ones)."""
        block, others = (self._configured.get(name) for name in ("block_size", "num_random_blocks"))
        if block is None or others is None or self.config.get("attention_type") == "original_full":
            return True
        return source <= (5 + 2 * others) * block

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The distinct layers."""
        return tuple(dict.fromkeys(self.architecture.layers or ()))

    @cached_property
    def order(self) -> tuple[int, ...]:
        """For each layer of the model, its index in `layers`."""
        numbers = {layer: number for number, layer in enumerate(self.layers)}
        return tuple(numbers[layer] for layer in self.architecture.layers or ())

    @cached_property
    def signatures(self) -> tuple[str, ...]:
        """The signature of each of `layers`."""
        return tuple(signature(layer) for layer in self.layers)

    @cached_property
    def sizes(self) -> tuple[Mapping[str, int], ...]:
        """The named sizes of each of `layers`, then of the head, then of the part before the layers."""
        firsts = [self.order.index(number) for number in range(len(self.layers))]
        places = (*firsts, len(self.order), 0)
        return tuple(part_sizes(self._configured, self.architecture, index) for index in places)

    def tokens(self, batch: int, seq: int, source: int = 0, past: int = 0) -> tuple[Mapping[str, int], ...]:
        """Token counts for each of `sizes`, with `source` encoder tokens and `past` cached tokens. A sliding-window
        layer has at most its window of the cached tokens, plus the previous chunk."""
        found = []
        for number, sizes in enumerate(self.sizes):
            window = getattr(self.layers[number].cache, "window", None) if number < len(self.layers) else None
            cached = past if window is None else min(past, window - 1 + seq)
            counts = token_sizes(batch, seq, sizes, source, cached)
            if past and "window" in sizes:
                counts["window"] = min(sizes["window"], past + 1)
            found.append(counts)
        return tuple(found)

    @cached_property
    def _configured(self) -> dict[str, int]:
        return configured_sizes(self.config)


# Limits of attention other than windows: tokens selected by an indexer, attention chunks.
_BOUNDS: Final = ("index_topk", "indexer_budget", "attention_chunk_size")

_UNMASKED: Final = ("full_attention", "sliding_attention", "chunked_attention")
_SHARED: Final = "shared "


def alike(name: str, others: Collection[str], *, within: bool) -> str | None:
    """The signature among `others` that computes the same: itself, or, if windows are longer than the input
    (`within`), one with a window in place of none or vice versa; None for none."""
    if name in others:
        return name
    kind, _, ffn = name.partition(", ")
    plain = kind.removeprefix(_SHARED)
    if not within or plain not in _UNMASKED:
        return None
    known = (f"{kind.removesuffix(plain)}{other}, {ffn}" for other in _UNMASKED)
    return next((other for other in known if other in others), None)


def nearest(name: str, others: Collection[str], *, within: bool) -> str:
    """The most similar signature among `others`: with the same feed-forward type, else the same attention, else any."""
    if same := alike(name, others, within=within):
        return same
    kind, _, ffn = name.partition(", ")
    close = [other for other in others if other.endswith(f", {ffn}")]
    close += [other for other in others if other.startswith(f"{kind}, ")]
    return next(iter(close or others))
