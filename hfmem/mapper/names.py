"""Component and role of a tensor from its name, and whether it is a buffer. Names are parsed only here; what follows
from a role is in `hfmem.mapper.roles`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final

from hfmem.fetcher.patterns import divided
from hfmem.mapper.values import Component

__all__ = ["Meaning", "divided_at", "layer_index", "meaning", "without_numbers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a tensor name stands for.

    Attributes:
        component: the part of the model.
        role: the module's name (`q_proj`), with the kind for tensors other than its weight (`q_proj.bias`).
        buffer: whether it is a constant that the class computes itself and does not load.
        statistic: whether it is a buffer that the class loads: the running mean and variance of a batch normalisation.
        matrix: whether it is the weight of a linear layer in a block or expert, judged by name and dimensions.
    """

    component: Component
    role: str
    buffer: bool
    statistic: bool
    matrix: bool


_LAYER: Final = r"(?:^|\.)(?:layers|h|layer|blocks|block)"
_INDEX: Final = re.compile(rf"{_LAYER}\.(\d{{1,9}})(?:\.|$)")
_INDICES: Final = re.compile(rf"{_LAYER}\.(?:\d{{1,9}}|(\{{[0-9,\-]+\}}))(?:\.|$)")  # of a pattern of names
_NUMBER: Final = re.compile(r"(?<![^.])\d+(?![^.])")

# Constants that the class computes: rotary frequencies and tables, position ids, causal masks (`attn.bias` and
# `attn.masked_bias` of GPT-2, GPT-J, GPT-Neo and GPT-NeoX, distinguished from real biases by their four dimensions).
_BUFFER: Final = re.compile(
    r"(\binv_freq|\brotary_emb\.(cos|sin)_cached|position_ids|token_type_ids|masked_bias|num_batches_tracked|"
    r"_float_tensor|relative_position_index|\bfreqs_cis)$"
)
_STATISTIC: Final = re.compile(r"(^|[._])running_(mean|var)$")
_MASK: Final = re.compile(r"(attn|attention)\.bias$")

# The first pattern that matches wins. Towers come early, so that all of their tensors belong to the tower.
_COMPONENTS: Final[tuple[tuple[str, Component], ...]] = (
    (r"(^|\.)mtp(\.|_|$)|(^|\.)nextn", "mtp"),
    (
        r"projector|(^|\.|_)merger|connector|embed_vision|embed_audio|modality_projection|mm_input_projection",
        "projector",
    ),
    (r"(^|\.)(vision_\w+|visual|vit|image_encoder|image_tower|img_processor|vpm)(\.|$)", "vision"),
    (r"(^|\.)(audio_\w+|speech_encoder)(\.|$)|(^|\.)encoder\.conv\d\.", "audio"),
    (r"(norm|norm_?\d|ln_\w+|ln\d|layer_?norm\w*|_norm\d?)(\.\w+)?$|(^|\.)norm_f\.", "norm"),
    (r"router|(mlp|moe|ffn|feed_forward|mixer)\.gate\.|shared_expert_gate|e_score_correction_bias", "router"),
    (r"shared_expert|shared_mlp", "shared_experts"),
    (r"(^|\.|_)experts?(\.|_|$)|moe\.(in|out)put_linear", "experts"),
    (r"(^|\.)mixer\.[qkvo]_proj\.", "attention"),
    (r"(^|\.)mixer\.(up|gate|down)_proj\.", "mlp"),
    (r"(^|\.)(mamba|mixer|ssm|linear_attn|rglru|recurrent_block|time_mix\w*|short_conv)(\.|$)|\.conv\.", "state"),
    (r"(^|\.)(lm_head|embed_out|output_layer|score|classifier|cls|predictions|qa_outputs)(\.|$)", "lm_head"),
    (r"(^|\.)(output|head)\.(weight|bias)$", "lm_head"),
    (r"attn|attention|query_key_value|(^|\.)[qkv]_proj", "attention"),
    (r"mlp|ffn|feed_forward|(^|\.)fc\d|intermediate|layer\.#\.output|h_to_4h|4h_to_h|DenseReluDense", "mlp"),
    (r"embed|(^|\.)w[tp]e(\.|$)|embd|(^|\.)shared\.", "embedding"),
)


@cache
def _searches() -> tuple[tuple[re.Pattern[str], Component], ...]:
    """The patterns, compiled for runs that read names."""
    return tuple((re.compile(pattern, re.IGNORECASE), component) for pattern, component in _COMPONENTS)


_MATRIX_COMPONENTS: Final = frozenset(
    {"attention", "mlp", "experts", "shared_experts", "state", "vision", "audio", "projector"}
)


def layer_index(name: str) -> int | None:
    """The index of the layer to which a tensor belongs; None outside of layers."""
    match = _INDEX.search(name)
    return int(match.group(1)) if match else None


def divided_at(depth: int | None, pattern: str) -> tuple[str, str]:
    """The names of a pattern in that many layers or in none, and those in layers beyond, as patterns; "" for none."""
    match = None if depth is None else _INDICES.search(pattern)
    if depth is None or match is None:
        return pattern, ""
    if match.group(1) is None:
        index = layer_index(pattern)
        return ("", pattern) if index is not None and index >= depth else (pattern, "")
    before, behind = pattern[: match.start(1)], pattern[match.end(1) :]
    within, beyond = divided(match.group(1), lambda index: index < depth)
    return within and before + within + behind, beyond and before + beyond + behind


def without_numbers(name: str) -> str:
    """The name with # in place of its numeric parts, so that it is the same for every layer and expert."""
    return _NUMBER.sub("#", name)


def meaning(name: str, dimensions: int) -> Meaning:
    """Component and role of a tensor with this name and number of dimensions."""
    return _meaning(without_numbers(name), dimensions)


@lru_cache(maxsize=4096)  # names without numbers repeat for every layer and expert
def _meaning(name: str, dimensions: int) -> Meaning:
    component: Component = next((component for search, component in _searches() if search.search(name)), "other")
    role, kind = _role(name)
    return Meaning(
        component=component,
        role=role,
        buffer=bool(_BUFFER.search(name)) or (dimensions == 4 and bool(_MASK.search(name))),
        statistic=bool(_STATISTIC.search(name)),
        matrix=_is_matrix(kind, role, dimensions) and component in _MATRIX_COMPONENTS,
    )


def _is_matrix(kind: str, role: str, dimensions: int) -> bool:
    """Whether this is the weight of a linear layer. Weights of convolutions, embeddings, and biases of fused experts
    are not, even with two or three dimensions."""
    other = "conv" in role or "embed" in role or role.endswith("_bias")
    return kind == "weight" and dimensions in (2, 3) and not other


def _role(name: str) -> tuple[str, str]:
    """The role, and the kind of tensor (`weight`, `bias`, …)."""
    parts = [part for part in name.split(".") if part != "#"]
    if len(parts) == 1:
        return parts[0], "weight"
    module, kind = parts[-2], parts[-1]
    if kind == "weight":
        return module, "weight"
    # fused experts are parameters of the module itself: `experts.gate_up_proj`
    return (kind, "weight") if module == "experts" else (f"{module}.{kind}", kind)
