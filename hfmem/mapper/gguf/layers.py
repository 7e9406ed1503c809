"""The layers of a GGUF: the cache and feed-forward network of each, in the same form as from a config.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from hfmem.fetcher.values import TensorInfo
from hfmem.mapper.caches import (
    KV,
    Cache,
    Combined,
    Compressed,
    CrossKV,
    Indexed,
    Latent,
    Nothing,
    Shared,
    State,
)
from hfmem.mapper.gguf.keys import InvalidKeyError, Keys
from hfmem.mapper.gguf.names import block_of, split
from hfmem.mapper.gguf.rows import Row, Windows
from hfmem.mapper.values import Dense, Experts, Ffn, Layer

__all__ = ["Blocks", "Plan", "blocks_of", "layers", "plan_of"]

_MOST_LAYERS: Final = 10_000  # llama.cpp allows 512
_FLOAT32: Final = "float32"
_WINDOW: Final = "attention.sliding_window"

Blocks = Mapping[int, Mapping[str, tuple[int, ...]]]
"""Shapes of the matrices of each layer's feed-forward network, by layer and name."""

_NETWORK: Final = ("ffn_", "channel_mix_key")


def blocks_of(tensors: Iterable[TensorInfo]) -> Blocks:
    """The feed-forward matrices in the files. Experts stored as separate tensors are merged into one stacked shape."""
    found: dict[int, dict[str, tuple[int, ...]]] = {}
    for tensor in tensors:
        name = tensor.name
        if "ffn_" not in name and "channel_mix_key" not in name:
            continue
        index, alike = split(name)
        if index is None or not alike.endswith(".weight"):
            continue
        base, _, expert = block_of(alike).removesuffix(".weight").partition(".")
        shapes = found.setdefault(index, {})
        if expert == "#":
            shapes[f"{base}_exps"] = (shapes.get(f"{base}_exps", (0,))[0] + 1, *tensor.shape)
        elif base.startswith(_NETWORK):
            shapes[base] = tensor.shape
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Per-layer sizes from the metadata.

    Attributes:
        count: layers that run; next-token prediction (MTP) layers are excluded.
        hidden: hidden size.
        heads, kv_heads: query heads and KV heads of each layer.
        key, value: key and value head_dim: of full-attention layers, then of sliding-window layers.
        units: feed-forward length of each layer.
        used: experts per token of each layer.
        dense: leading layers without experts.
        first: query heads of the first layer that has any.
        ratios: tokens per compressed entry, of each layer (DeepSeek-V4).
        recurrent: whether each layer has a recurrent state.
        sliding: whether each layer uses the sliding window.
        window: size of the sliding window in tokens; None for none.
    """

    count: int
    hidden: int
    heads: list[int]
    kv_heads: list[int]
    key: tuple[int, int]
    value: tuple[int, int]
    units: list[int]
    used: list[int]
    dense: int
    first: int
    ratios: list[int]
    recurrent: list[bool] = field(default_factory=list)
    sliding: list[bool] = field(default_factory=list)
    window: int | None = None


def plan_of(keys: Keys, row: Row) -> Plan:
    """The plan that the metadata describes (`llama_model_base::load_hparams`).

    Raises:
        MissingKeyError, InvalidKeyError: a required key is absent, or has an impossible value.
    """
    blocks = keys.number("block_count")
    count = blocks - keys.number("nextn_predict_layers", 0)
    if row.form == "encoder_decoder":
        count = keys.number("decoder_block_count", count)
    if not 0 < count <= _MOST_LAYERS:
        raise InvalidKeyError(f"{keys.architecture}.block_count", blocks)
    hidden = keys.number("embedding_length")
    heads = keys.each("attention.head_count", count, 0)
    first = next((number for number in heads if number), 0)
    size = hidden // first if first else 0
    key, value = keys.number("attention.key_length", size), keys.number("attention.value_length", size)
    kv_heads = keys.each("attention.head_count_kv", count, 0)
    units = keys.each("feed_forward_length", count, 0)
    windows = row.windows
    window = None if windows is None else _window(keys, windows, count)
    return Plan(
        count=count,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads if _has(keys, "attention.head_count_kv") else heads,
        key=(key, keys.number("attention.key_length_swa", key)),
        value=(value, keys.number("attention.value_length_swa", value)),
        units=units,
        used=keys.each("expert_used_count", count, 0),
        dense=keys.number("leading_dense_block_count", 0),
        first=first,
        ratios=keys.each("attention.compress_ratios", count, 0) if row.compressed else [],
        recurrent=_recurrent(keys, row, kv_heads, units),
        sliding=[False] * count if window is None or windows is None else _sliding(keys, windows, count),
        window=window,
    )


def _has(keys: Keys, key: str) -> bool:
    return keys.optional(key) is not None


def _window(keys: Keys, windows: Windows, count: int) -> int | None:
    if windows.layers and windows.layers != count:
        return None
    found = keys.number(_WINDOW, windows.size or 0)
    return (windows.fixed or found) if found else None


def _sliding(keys: Keys, windows: Windows, count: int) -> list[bool]:
    """Which layers use the sliding window (`load_swa_pattern`). A list in the file takes precedence over a number in
    the file, and that over the architecture's row."""
    key = f"{_WINDOW}_pattern"
    if keys.listed(key):
        return [bool(flag) for flag in keys.each(key, count, 0)]
    pattern = keys.number(key, windows.pattern)
    if not pattern:
        return [True] * count
    if windows.first:
        return [index % pattern != 0 for index in range(count)]
    return [index % pattern < pattern - 1 for index in range(count)]


def _recurrent(keys: Keys, row: Row, kv_heads: list[int], units: list[int]) -> list[bool]:
    count = len(kv_heads)
    if row.states == "interval":
        if _has(keys, "attention.recurrent_layers"):
            return [bool(flag) for flag in keys.each("attention.recurrent_layers", count, 0)]
        interval = keys.number("full_attention_interval", row.interval) or 1
        return [(index + 1) % interval != 0 for index in range(count)]
    if row.states == "without_kv":
        return [number == 0 for number in kv_heads]
    if row.states == "without_kv_or_ffn":
        return [number == 0 and width == 0 for number, width in zip(kv_heads, units, strict=True)]
    return [row.states in ("all", "beside")] * count


def layers(keys: Keys, row: Row, plan: Plan, blocks: Blocks) -> tuple[Layer, ...]:
    """Every layer that runs.

    Raises:
        MissingKeyError, InvalidKeyError: as in `plan_of`.
    """
    kept = plan.count
    if row.kept_first is not None:
        kept = row.kept_first
    elif row.shared:
        kept = plan.count - keys.number(row.shared, 0)
    indexed = _indexed(keys, row, plan)
    found = []
    for index in range(plan.count):
        kind, cache = _cache(keys, row, plan, index)
        if indexed[index] and kind == "full_attention":
            cache = Indexed(attention=cache, index_dim=keys.number("attention.indexer.key_length"))
        if row.indexers != "none" and kind == "full_attention" and any(indexed):
            kind = "indexed_attention"
        if index >= kept and isinstance(cache, KV):
            kind, cache = "shared", Shared(source=cache)
        heads = 0 if kind in ("linear_attention", "conv") else plan.heads[index]
        found.append(Layer(kind=kind, cache=cache, heads=heads, ffn=_ffn(plan, index, blocks.get(index, {}))))
    # bounded by _MOST_LAYERS: `loops` comes from the file and multiplies the list
    if row.loops:
        found *= min(max(keys.number(row.loops, 1), 1), _MOST_LAYERS // plan.count)
    if row.router:
        cache = KV(heads=1, key_dim=plan.key[0], value_dim=plan.value[0])
        found.append(Layer(kind="full_attention", cache=cache, heads=1, ffn=None))
    return tuple(found)


def _indexed(keys: Keys, row: Row, plan: Plan) -> list[bool]:
    if row.indexers == "none" or not keys.number("attention.indexer.top_k", 0):
        return [False] * plan.count
    if row.indexers == "after_dense":
        return [index >= plan.dense for index in range(plan.count)]
    if row.indexers == "listed":
        return _listed_indexers(keys, row, plan.count)
    return [True] * plan.count


def _listed_indexers(keys: Keys, row: Row, count: int) -> list[bool]:
    key = "attention.indexer.types"
    if row.sharing is not None and not _has(keys, key):
        least, lead, period = row.sharing
        if keys.number("context_length", 0) >= least:
            return [index < lead or (index - lead) % period == 0 for index in range(count)]
    return [bool(flag) for flag in keys.each(key, count, 1)]


def _cache(keys: Keys, row: Row, plan: Plan, index: int) -> tuple[str, Cache]:
    """The kind of a layer, and its cache."""
    without = not plan.kv_heads[index] or (row.states == "without_kv_or_ffn" and plan.units[index] > 0)
    if not row.keeps or (without and not plan.recurrent[index] and not row.compressed):
        return "none", Nothing()
    if row.compressed:
        return _compressed(keys, plan, index)
    if plan.recurrent[index]:
        return _with_state(keys, row, plan, index)
    cache = _attention(keys, plan, index)
    if row.form == "encoder_decoder":
        crossing = CrossKV(heads=plan.kv_heads[index], key_dim=plan.key[0], value_dim=plan.value[0])
        return "full_attention", Combined(caches=(cache, crossing))
    return (row.windows.kind if row.windows is not None and plan.sliding[index] else "full_attention"), cache


def _with_state(keys: Keys, row: Row, plan: Plan, index: int) -> tuple[str, Cache]:
    state = _state(keys, row, plan, index)
    if row.states == "beside":
        return "hybrid", Combined(caches=(_attention(keys, plan, index), state))
    return ("linear_attention" if state.recurrent else "conv"), state


def _attention(keys: Keys, plan: Plan, index: int) -> Cache:
    """A KV cache, or a latent one where the file has the key lengths of MLA (older conversions do not)."""
    sliding = plan.sliding[index]
    window = plan.window if sliding else None
    suffix = "_swa" if sliding and _has(keys, "attention.kv_lora_rank_swa") else ""
    key, value = (
        keys.optional(f"attention.key_length_mla{suffix}"),
        keys.optional(f"attention.value_length_mla{suffix}"),
    )
    if not key or not value:
        return KV(heads=plan.kv_heads[index], key_dim=plan.key[sliding], value_dim=plan.value[sliding], window=window)
    rank = keys.number(f"attention.kv_lora_rank{suffix}")
    rope = keys.number("rope.dimension_count")
    return Latent(rank=rank, rope_dim=rope, heads=plan.heads[index], key_dim=key, value_dim=value, window=window)


def _compressed(keys: Keys, plan: Plan, index: int) -> tuple[str, Cache]:
    """A sliding window with one tensor for key and value, and one compressed entry per `ratio` tokens (DeepSeek-V4)."""
    ratio, size = plan.ratios[index], plan.key[0]
    window = KV(heads=1, key_dim=size, value_dim=0 if ratio else size, window=keys.number(_WINDOW))
    if not ratio:
        return "sliding_attention", window
    overlapping = ratio == 4  # `overlap` of llama-kv-cache-dsv4.cpp; these have an indexer as well
    entries = Compressed(dim=size, rate=ratio, overlapping=overlapping)
    if not overlapping:
        return "heavily_compressed_attention", Combined(caches=(window, entries))
    index_dim = keys.number("attention.indexer.key_length")
    index_entries = Compressed(dim=index_dim, rate=ratio, overlapping=True, name="indexer's entries")
    return "compressed_sparse_attention", Combined(caches=(window, entries, index_entries))


def _state(keys: Keys, row: Row, plan: Plan, index: int) -> State:
    """The state of a recurrent layer (`n_embd_r` and `n_embd_s`); the convolution's includes the current token."""
    hidden, heads = plan.hidden, plan.heads[index] or plan.first
    if wkv := keys.optional("wkv.head_size"):
        shifts = keys.number("token_shift_count", 2)
        return State(conv=shifts * hidden, recurrent=hidden * wkv, recurrent_dtype=_FLOAT32)
    if kernel := keys.optional("shortconv.l_cache"):
        return State(conv=hidden * kernel)
    if row.lightning:
        return State(recurrent=heads * plan.key[0] ** 2)
    kernel = keys.number("ssm.conv_kernel")
    if size := keys.optional("kda.head_dim"):
        return State(conv=3 * kernel * heads * size, recurrent=heads * size**2, recurrent_dtype=_FLOAT32)
    inner, state, groups = (
        keys.number("ssm.inner_size"),
        keys.number("ssm.state_size"),
        keys.number("ssm.group_count", 0),
    )
    return State(
        conv=kernel * (inner + 2 * groups * state),
        recurrent=state * inner,
        recurrent_dtype=_FLOAT32,
        channels=0 if groups else inner,
    )


def _ffn(plan: Plan, index: int, block: Mapping[str, tuple[int, ...]]) -> Ffn | None:
    """The feed-forward network that a layer's matrices describe."""
    dense = block.get("ffn_down")
    if experts := block.get("ffn_down_exps"):
        count, intermediate = experts[0], experts[-1]
        shared = sum(shape[-1] for name in ("ffn_down_shexp", "ffn_down") if (shape := block.get(name)))
        return Experts(count=count, per_token=plan.used[index], intermediate=intermediate, shared=shared)
    if dense:
        intermediate, up = dense[-1], block.get("ffn_up", (0,))
        return Dense(intermediate=intermediate, gated="ffn_gate" in block or up[0] == 2 * intermediate)
    if mixed := block.get("channel_mix_key"):
        return Dense(intermediate=mixed[0], gated=False)
    return None
