"""What methods of PEFT other than LoRA train of a model, and what they hold beside that."""

from __future__ import annotations

from hfmem.estimator.recipe.peft import Module
from hfmem.estimator.recipe.values import Lora, Training
from hfmem.mapper.caches import KV, Indexed, Latent
from hfmem.mapper.interpret import Model
from hfmem.mapper.lora import Adapter, adapters

__all__ = ["adapted", "embedding_bytes", "held_elements", "module_of", "virtual_shapes"]


def adapted(model: Model, lora: Lora) -> tuple[Adapter, ...]:
    """The adapted modules of a model."""
    return adapters(model, lora.targets, experts=lora.method is None)


def module_of(model: Model, adapter: Adapter, lora: Lora) -> Module:
    """The module of an adapter, as methods see it; Conv1D (GPT-2) stores its weight as (inputs, outputs)."""
    inward = adapter.group in (target.group for target in adapters(model, lora.inward))
    sizes = (adapter.inputs, adapter.outputs)
    inputs, outputs = reversed(sizes) if model.architecture.conv1d else sizes
    return Module(inputs=inputs, outputs=outputs, rank=lora.rank, inward=inward)


def virtual_shapes(model: Model, lora: Lora) -> list[tuple[tuple[int, ...], int]]:
    """Shapes and counts of virtual tokens, of the network that encodes them, or of trained rows of the embedding."""
    architecture, method = model.architecture, lora.method
    hidden, tokens = architecture.hidden_size or 0, lora.tokens
    if method is None or method.kind == "modules":
        return []
    if method.kind == "prefix":
        return [((tokens, _depth(model) * 2 * _keys(model)), 1)]
    rows: list[tuple[tuple[int, ...], int]] = [((tokens, hidden), 1)]
    if method.kind == "encoded prompt":
        rows += [((hidden, hidden), 3), ((hidden,), 3)]
    return rows


def _depth(model: Model) -> int:
    return len(model.architecture.layers or ())


def _keys(model: Model) -> int:
    """Elements of a token's keys in the layer that has most, as PEFT counts them for grouped queries."""
    layers = [layer.cache for layer in model.architecture.layers or ()]
    caches = [cache.attention if isinstance(cache, Indexed) else cache for cache in layers]
    widths = [cache.heads * cache.key_dim for cache in caches if isinstance(cache, KV)]
    widths += [cache.heads * cache.rope_dim for cache in caches if isinstance(cache, Latent)]
    return max(widths, default=model.architecture.hidden_size or 0)


def embedding_bytes(model: Model, training: Training) -> int:
    """Bytes of an embedding that trained rows are written into; 0 for other methods."""
    lora, architecture = training.lora, model.architecture
    if lora is None or lora.method is None or lora.method.kind != "tokens":
        return 0
    width = 2 if training.precision.weights != "float32" else 4
    return width * (architecture.vocab_size or 0) * (architecture.hidden_size or 0)


def held_elements(model: Model, lora: Lora) -> int:
    """Elements in float32 that a method holds beside what it trains."""
    method = lora.method
    if method is None:
        return 0
    if method.kind == "tokens":
        return lora.tokens * (model.architecture.hidden_size or 0)
    found = [(adapter.count, module_of(model, adapter, lora)) for adapter in adapted(model, lora)]
    if not method.shared:
        return sum(count * method.held(module) for count, module in found)
    widest = Module(
        inputs=max((module.inputs for _, module in found), default=0),
        outputs=max((module.outputs for _, module in found), default=0),
        rank=lora.rank,
    )
    return method.held(widest)
