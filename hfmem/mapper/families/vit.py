"""Image encoders: ViT, DeiT (with a distillation token), and YOLOS (object detection) (`modeling_<type>.py`)."""

from __future__ import annotations

from dataclasses import replace

from hfmem.mapper.blueprint import Blueprint, head, linear, weight
from hfmem.mapper.caches import Nothing
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._blocks import Block, blocks, norms, patches, side
from hfmem.mapper.families._decoder import layer_count
from hfmem.mapper.families._heads import labels
from hfmem.mapper.values import Architecture, Dense, Layer, TensorGroup

__all__ = ["read"]


def read(facts: Facts) -> Blueprint:
    """Layers and weights; there is no cache."""
    hidden, layers = facts.integer("hidden_size"), layer_count(facts)
    b = replace(Block(hidden=hidden, inner=facts.integer("intermediate_size")), qkv_bias=facts.flag("qkv_bias"))
    heads = facts.integer("num_attention_heads")
    layer = Layer(kind="none", cache=Nothing(), heads=heads, ffn=Dense(intermediate=b.inner, gated=False))
    added = _yolos(facts, layers) if facts.model_type == "yolos" else _vit(facts)
    weights = [
        *weight("vision", "cls_token", 1, 1, hidden, count=_tokens(facts)),
        *patches(hidden, facts.integer("num_channels"), side(facts, "patch_size"), side(facts, "patch_size")),
        *weight("vision", "position_embeddings", 1, _positions(facts), hidden),
        *blocks("vision", b, layers),
        *norms("vision", hidden),
    ]
    architecture = Architecture(
        model_type=facts.model_type,
        hidden_size=hidden,
        max_positions=_positions(facts),
        attention_heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        intermediate_size=b.inner,
        layers=(layer,) * layers,
        head="none",
    )
    return Blueprint(architecture=architecture, groups=None if added is None else (*weights, *added))


def _positions(facts: Facts) -> int:
    """The number of positions: of patches, of class tokens, and of YOLOS's detection tokens."""
    height, *rest = facts.integers("image_size")
    patch, width = side(facts, "patch_size"), rest[0] if rest else height
    detected = facts.integer("num_detection_tokens") if facts.model_type == "yolos" else 0
    return (height // patch) * (width // patch) + _tokens(facts) + detected


def _tokens(facts: Facts) -> int:
    """The number of class and distillation tokens before the patches."""
    return 2 if facts.model_type == "deit" else 1


def _class(facts: Facts) -> str:
    named = facts.items("architectures")
    return named[0] if named and isinstance(named[0], str) else "Model"


def _vit(facts: Facts) -> list[TensorGroup] | None:
    """The pooler, or the classifier; None for other classes."""
    hidden, name = facts.integer("hidden_size"), _class(facts)
    if name.endswith("ForImageClassification"):
        return head(labels(facts), hidden, tied=False, bias=True, role="classifier")
    if name.endswith("ForImageClassificationWithTeacher"):
        return [
            group for _ in range(2) for group in head(labels(facts), hidden, tied=False, bias=True, role="classifier")
        ]
    if name.endswith("Model"):
        return linear("other", "pooler", facts.integer("pooler_output_size", default=hidden), hidden, bias=True)
    return None


def _yolos(facts: Facts, layers: int) -> list[TensorGroup] | None:
    """Detection tokens, positions for each layer but the last, and two heads with three layers each."""
    hidden, name = facts.integer("hidden_size"), _class(facts)
    groups = weight("vision", "detection_tokens", 1, facts.integer("num_detection_tokens"), hidden)
    if facts.flag("use_mid_position_embeddings"):
        groups += weight("vision", "mid_position_embeddings", 1, _positions(facts), hidden, count=layers - 1)
    if name.endswith("ForObjectDetection"):
        groups += linear("other", "layers", hidden, hidden, count=4, bias=True)
        groups += head(labels(facts) + 1, hidden, tied=False, bias=True, role="class_labels_classifier")
        return groups + head(4, hidden, tied=False, bias=True, role="bbox_predictor")
    if name.endswith("Model"):
        return groups + linear("other", "pooler", hidden, hidden, bias=True)
    return None
