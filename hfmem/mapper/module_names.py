"""The layers to which the entries of a quantiser's module list apply.

With only the config available, module names are unknown, so entries are matched against the names that such modules
usually have, layer by layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hfmem.mapper.caches import State
from hfmem.mapper.values import Architecture, Dense, Experts, TensorGroup

if TYPE_CHECKING:
    from hfmem.mapper.entries import Entries
    from hfmem.mapper.expressions import Budget

__all__ = ["PARENTS", "Names"]

PARENTS: Final[dict[str, tuple[str, ...]]] = {
    "attention": ("self_attn", "attn", "attention", "mixer"),
    "state": ("linear_attn", "mamba", "mixer", "self_attn"),
    "mlp": ("mlp", "feed_forward", "ffn", "mixer"),
    "experts": (
        "mlp.experts.0",
        "block_sparse_moe.experts.0",
        "feed_forward.experts.0",
        "ffn.experts.0",
        "mixer.experts.0",
        "experts.0",
    ),
    "shared_experts": (
        "mlp.shared_experts",
        "mlp.shared_expert",
        "feed_forward.shared_expert",
        "ffn.shared_experts",
        "mixer.shared_experts",
    ),
}
"""Usual parent modules of a component within a layer."""

_OUTSIDE: Final[dict[str, tuple[str, ...]]] = {
    "lm_head": ("lm_head", "head", "language_model.lm_head"),
    "vision": (
        "visual.blocks.0.attn",
        "model.visual.blocks.0.attn",
        "vision_tower.encoder",
        "model.vision_tower.encoder",
        "vision_model.encoder",
    ),
    "audio": ("audio_tower.layers.0", "model.audio_tower.layers.0"),
    "projector": ("multi_modal_projector", "model.embed_vision", "visual.merger", "mm_projector"),
}
"""The same for components outside of the decoder's layers."""

_FUSED: Final[dict[str, tuple[str, ...]]] = {
    "gate_up_proj": ("gate_proj", "up_proj", "w1", "w3"),
    "down_proj": ("w2",),
}

_ONE: Final = frozenset({0})
"""Components outside of the decoder's layers match as a whole or not at all, and are treated as one layer."""

_MOST_STEPS: Final = 1_000_000
"""Steps that all patterns of a config may take together (a second or two); later patterns match nothing."""


class Names:
    """Matches list entries with the layers of a model."""

    def __init__(self, architecture: Architecture, *, beside: bool) -> None:
        self._beside = beside
        self._lists: dict[tuple[str, ...], Entries] = {}
        self._budget: Budget | None = None
        layers = architecture.layers or ()
        every = frozenset(range(len(layers)))
        dense = frozenset(i for i, layer in enumerate(layers) if isinstance(layer.ffn, Dense))
        mixed = frozenset(i for i, layer in enumerate(layers) if isinstance(layer.ffn, Experts))
        state = frozenset(i for i, layer in enumerate(layers) if isinstance(layer.cache, State))
        self._layers: dict[str, frozenset[int]] = {
            # `or every`: files may have components that the architecture does not show in any layer
            "mlp": dense or every,
            "experts": mixed or every,
            "shared_experts": mixed or every,
            "state": state or every,
            "attention": (every - state) or every,  # in hybrids, recurrent layers have no attention
        }

    def layers(self, group: TensorGroup) -> frozenset[int]:
        """The layers in which a group has tensors."""
        return self._layers.get(group.component) or _ONE

    @property
    def unread(self) -> dict[str, None]:
        """A label for patterns that were not matched because the budget was exhausted."""
        return {"too many patterns": None} if self._budget is not None and self._budget.spent else {}

    def spoken_of(self, group: TensorGroup, entries: tuple[str, ...]) -> frozenset[int]:
        """The layers in which the entries match the group's module."""
        layers, listed = self.layers(group), self._listed(entries)
        if group.component not in PARENTS:
            return layers if listed.name(_OUTSIDE.get(group.component, (group.component,))) else frozenset()
        return listed.layers(self._inside(group), layers)

    def _listed(self, entries: tuple[str, ...]) -> Entries:
        """A list, indexed on first use."""
        from hfmem.mapper.entries import Entries  # only needed for quantised models
        from hfmem.mapper.expressions import Budget

        if entries not in self._lists:
            self._budget = self._budget or Budget(_MOST_STEPS)
            self._lists[entries] = Entries(entries, self._budget)
        return self._lists[entries]

    def _inside(self, group: TensorGroup) -> tuple[str, ...]:
        """Names that a group's modules may have within a layer."""
        tails = dict.fromkeys((group.module, group.role, *_FUSED.get(group.module, ())))
        names = tuple(f"{parent}.{tail}" for parent in PARENTS[group.component] for tail in tails)
        if self._beside and group.component == "experts":
            return tuple(name for name in names if not name.startswith("mlp."))
        return names
