"""Laguna and Step-3.5: gated attention with a different number of query heads per layer, and experts
(modeling_laguna.py, modeling_step3p7.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import Blueprint, embedding, linear, norm
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, layer_count, layers_of, never, own_facts, sizes
from hfmem.mapper.families._mixture import Mixture, by_type, mixture
from hfmem.mapper.values import TensorGroup

__all__ = ["read"]

_STEP: Final = ("step3p5", "step3p7")


def _first_dense(_: Facts, layers: int) -> Sequence[bool]:
    return [index > 0 for index in range(layers)]


def _enumerated(facts: Facts, layers: int) -> Sequence[bool]:
    """The layers in `moe_layers_enum`, else all after `first_k_dense_replace` (default 3, configuration_step3p7.py)."""
    if not facts.has("moe_layers_enum"):
        return [index >= facts.integer("first_k_dense_replace", default=3) for index in range(layers)]
    text = facts.text("moe_layers_enum") or ""
    chosen = {int(word) for word in text.split(",") if word.strip()}
    return [index in chosen for index in range(layers)]


_LAGUNA: Final = Mixture(
    intermediate="moe_intermediate_size",
    count="num_experts",
    sparse=by_type(_first_dense),
    shared=lambda facts: facts.integer("shared_expert_intermediate_size"),
    fixed=1,
)
_STEP_MIXTURE: Final = Mixture(
    intermediate="moe_intermediate_size",
    count="n_routed_experts",
    sparse=by_type(_enumerated),
    shared=lambda facts: facts.integer("share_expert_dim"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Type:
    """The differences between the two types: experts, query heads of each layer, and gates per head or per element."""

    mixed: Mixture
    heads: Sequence[int]
    gate_per_head: bool = True


def read(facts: Facts) -> Blueprint:
    """Layers and weights. Step-3.7 is Step-3.5 with a vision tower, which is not described; its files have the text
    model's keys in `text_config` or at the root."""
    if facts.model_type not in _STEP:
        return _decoder(facts, _laguna(facts))
    nested = facts.part("text_config")
    text = (facts if nested is None else nested).changed(model_type="step3p5")
    text = _trimmed(text)
    blueprint = _decoder(text, _step(text))
    if facts.model_type == "step3p5":
        return blueprint
    return replace(blueprint, architecture=replace(blueprint.architecture, model_type="step3p7"), groups=None)


def _laguna(facts: Facts) -> _Type:
    layers, heads = layer_count(facts), facts.integer("num_attention_heads")
    listed = facts.items("num_attention_heads_per_layer")
    if listed is not None and (len(listed) != layers or not all(isinstance(item, int) for item in listed)):
        raise InvalidConfigError("", f"num_attention_heads_per_layer is not one number for each of {layers} layers")
    return _Type(
        mixed=_LAGUNA,
        heads=(heads,) * layers if listed is None else tuple(int(item) for item in listed),
        gate_per_head=not facts.has("gating") or _per_head(facts),
    )


def _per_head(facts: Facts) -> bool:
    """Whether there is one gate per head: `gating` is true or "per-head"."""
    try:
        return facts.flag("gating")
    except InvalidConfigError:
        return facts.text("gating") == "per-head"


def _step(facts: Facts) -> _Type:
    heads = facts.integer("num_attention_heads")
    other = facts.part("attention_other_setting")
    sliding = heads if other is None else other.integer("num_attention_heads", default=heads)
    sliding = facts.integer("num_sliding_attention_heads", default=sliding)
    kinds = facts.items("layer_types") or ("full_attention",) * layer_count(facts)
    found = [sliding if kind == "sliding_attention" else heads for kind in kinds]
    listed = facts.part("per_layer_config")
    if listed is not None:
        found = [own_facts(listed, index).integer("num_attention_heads", default=heads) for index in range(len(kinds))]
    return _Type(mixed=_STEP_MIXTURE, heads=tuple(found))


def _trimmed(facts: Facts) -> Facts:
    """The facts without list entries of the MTP layers, which the files append to the model's own."""
    changes = {}
    layers = layer_count(facts)
    padded = layers + facts.integer("num_nextn_predict_layers", default=0)
    for key in ("layer_types", "mlp_layer_types"):
        listed = facts.items(key)
        if listed is not None and len(listed) == padded:
            changes[key] = list(listed[:layers])
    return facts.changed(**changes)


def _decoder(facts: Facts, kind: _Type) -> Blueprint:
    s = sizes(facts)
    ffns, networks = mixture(facts, kind.mixed, s.hidden, s.layers)
    weights = [
        *embedding(s.vocab, s.hidden),
        *_attention(facts, s, kind),
        *networks,
        *norm(s.hidden, count=2 * s.layers + 1),
    ]
    layers = layers_of(facts.changed(per_layer_config=None), s, ffns, never)
    if len(kind.heads) != len(layers):
        raise InvalidConfigError("", f"layer_types has {len(kind.heads)} entries for {len(layers)} layers")
    layers = tuple(replace(layer, heads=heads) for layer, heads in zip(layers, kind.heads, strict=True))
    return decoder(facts, s, weights, layers)


def _attention(facts: Facts, s: Sizes, kind: _Type) -> list[TensorGroup]:
    bias = facts.flag("attention_bias")
    groups = [
        *linear("attention", "k_proj", s.kv, s.hidden, count=s.layers, bias=bias),
        *linear("attention", "v_proj", s.kv, s.hidden, count=s.layers, bias=bias),
        *norm(s.head_dim, count=2 * s.layers, role="qk_norm"),
    ]
    for heads, count in Counter(kind.heads).items():
        query = heads * s.head_dim
        groups += linear("attention", "q_proj", query, s.hidden, count=count, bias=bias)
        groups += linear("attention", "o_proj", s.hidden, query, count=count, bias=bias)
        groups += linear("attention", "g_proj", heads if kind.gate_per_head else query, s.hidden, count=count)
    return groups
