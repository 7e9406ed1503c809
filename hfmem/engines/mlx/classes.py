"""The classes of models whose module in mlx-lm is known here, and what differs between the modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from hfmem.engines.mlx.modules import Attention, Block, Mixture, Network, Norms, Shape
from hfmem.engines.mlx.states import Delta, Scan
from hfmem.mapper.caches import KV, State
from hfmem.mapper.interpret import Model
from hfmem.mapper.mixers import DeltaRule, StateSpace
from hfmem.mapper.values import Dense, Experts, Layer
from hfmem.unknown import Unknown

__all__ = ["DIALECTS", "Dialect", "shape_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """A module of mlx-lm.

    Attributes:
        module: its file in mlx_lm/models.
        norms: where the norms of a block are.
        queries: the norm of queries and keys: per head before or after they are transposed, over all heads, or none.
        windows: whether it keeps to sliding windows; others cache everything.
        fused: whether one matrix makes queries, keys and values, and another gate and up projection.
        steps: kernels of the activation function.
        scaled: whether embeddings are multiplied by a factor.
        gated: whether attention has a gate for its output, and rotary positions in a part of each head.
        apart: whether its delta nets copy their inputs out of one matrix.
        shared_gate: whether the experts that all tokens use have a gate.
        multiplied: whether what is added to the residual stream is multiplied by a factor.
        fused_shared: whether one matrix makes gate and up projection of the experts that all tokens use.
    """

    module: str
    norms: Norms = "before"
    queries: Literal["none", "heads", "transposed", "whole"] = "none"
    windows: bool = False
    fused: bool = False
    steps: int = 1
    scaled: bool = False
    gated: bool = False
    apart: bool = False
    shared_gate: bool = False
    multiplied: bool = False
    fused_shared: bool = False


_LLAMA: Final = Dialect(module="llama.py", windows=True)
_GEMMA: Final = Dialect(
    module="gemma3_text.py", norms="around", queries="transposed", windows=True, steps=2, scaled=True
)
_QWEN: Final = Dialect(module="qwen3_5.py", gated=True, shared_gate=True)

DIALECTS: Final[Mapping[str, Dialect]] = {
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": Dialect(module="llama.py"),  # with no layer types, its window is not kept
    "Qwen2ForCausalLM": Dialect(module="qwen2.py"),
    "Qwen3ForCausalLM": Dialect(module="qwen3.py", queries="heads"),
    "Qwen3MoeForCausalLM": Dialect(module="qwen3_moe.py", queries="heads"),
    "MixtralForCausalLM": Dialect(module="mixtral.py"),
    "Phi3ForCausalLM": Dialect(module="phi3.py", fused=True),
    "Olmo2ForCausalLM": Dialect(module="olmo2.py", norms="after", queries="whole"),
    "SmolLM3ForCausalLM": Dialect(module="smollm3.py"),
    "Gemma3ForCausalLM": _GEMMA,
    "Qwen3NextForCausalLM": replace(_QWEN, module="qwen3_next.py", apart=True),
    **dict.fromkeys(
        (
            "Qwen3_5ForCausalLM",
            "Qwen3_5ForConditionalGeneration",
            "Qwen3_5MoeForCausalLM",
            "Qwen3_5MoeForConditionalGeneration",
        ),
        _QWEN,
    ),
    "GraniteMoeHybridForCausalLM": Dialect(
        module="granitemoehybrid.py", scaled=True, multiplied=True, fused_shared=True
    ),
    "Gemma3ForConditionalGeneration": replace(_GEMMA, module="gemma3.py"),
}
"""Of mlx-lm 0.32.2, by the class that config.json names."""


def shape_of(model: Model) -> Shape | Unknown:
    """What mlx-lm's module of a model is made of, or why that is not known."""
    architecture = model.architecture
    if architecture.layers is None or architecture.hidden_size is None or architecture.vocab_size is None:
        return Unknown(architecture.unknown or "the layers of the architecture are not known")
    names = architecture.class_names
    dialect = next((DIALECTS[name] for name in names if name in DIALECTS), None)
    if dialect is None:
        return Unknown(f"the operations of mlx-lm's module for {names[0] if names else 'this model'} are not recorded")
    biased = _biases(model)
    blocks = [_block(layer, dialect, biased) for layer in architecture.layers]
    if any(block is None for block in blocks):
        return Unknown(f"a layer is of a kind that mlx-lm's {dialect.module} does not have")
    return Shape(
        hidden=architecture.hidden_size,
        vocab=architecture.vocab_size,
        blocks=tuple(block for block in blocks if block is not None),
        scaled=dialect.scaled,
    )


def _biases(model: Model) -> frozenset[tuple[str, bool]]:
    """Components with biases on projections that read the residual stream (True) or write to it."""
    groups = model.parameters.groups if model.parameters is not None else ()
    return frozenset((group.component, not group.writes_stream) for group in groups if group.bias and not group.scale)


def _block(layer: Layer, dialect: Dialect, biased: frozenset[tuple[str, bool]]) -> Block | None:
    network, mixer = _network(layer, dialect, biased), _mixer(layer, dialect, biased)
    if network is None or mixer is None:
        return None
    return Block(mixer=mixer, network=network, norms=dialect.norms, multiplied=dialect.multiplied)


def _mixer(layer: Layer, dialect: Dialect, biased: frozenset[tuple[str, bool]]) -> Attention | Delta | Scan | None:
    cache = layer.cache
    if isinstance(cache, State) and isinstance(layer.mixer, DeltaRule):
        return Delta(sizes=layer.mixer, fused=dialect.apart)
    if isinstance(cache, State) and isinstance(layer.mixer, StateSpace):
        return Scan(sizes=layer.mixer)
    if not isinstance(cache, KV) or cache.prompt or not cache.value_dim:
        return None
    return Attention(
        heads=layer.heads,
        kv_heads=cache.heads,
        key_dim=cache.key_dim,
        value_dim=cache.value_dim,
        window=cache.window if dialect.windows else None,
        fused=dialect.fused,
        bias=("attention", True) in biased,
        out_bias=("attention", False) in biased,
        queries=dialect.queries,
        gated=dialect.gated,
        partial=dialect.gated,
    )


def _network(layer: Layer, dialect: Dialect, biased: frozenset[tuple[str, bool]]) -> Network | Mixture | None:
    ffn = layer.ffn
    bias = ("mlp", True) in biased
    if isinstance(ffn, Dense) and not ffn.sparse:
        return Network(wide=ffn.intermediate, gated=ffn.gated, fused=dialect.fused, bias=bias, steps=dialect.steps)
    if not isinstance(ffn, Experts):
        return None
    shared = Network(wide=ffn.shared, fused=dialect.fused_shared) if ffn.shared else None
    return Mixture(
        count=ffn.count,
        chosen=ffn.per_token,
        wide=ffn.intermediate,
        shared=shared,
        shared_gate=shared is not None and dialect.shared_gate,
    )
