"""Qwen4-Exp: gated delta nets and indexed (sparse) attention with hyper-connections, and n-gram embeddings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import Blueprint, embedding, linear, norm, weight
from hfmem.mapper.caches import Cache, Combined, Indexed, State
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import Sizes, decoder, sizes
from hfmem.mapper.families._mixture import Mixture, mixture
from hfmem.mapper.families._states import attention_of, kept_kv
from hfmem.mapper.families.qwen3_next import delta_net, gated_attention, projections
from hfmem.mapper.values import Ffn, Layer, TensorGroup

__all__ = ["read"]

_WORDS: Final = {
    "linear_attention": "linear_attention",
    "indexed_attention": "indexed_attention",
    "qwen_sparse_attention": "indexed_attention",
    "full_attention": "indexed_attention",
    "attention": "indexed_attention",
}
_MIXED: Final = Mixture(
    intermediate="moe_intermediate_size",
    count="num_experts",
    shared=lambda facts: facts.integer("shared_expert_intermediate_size"),
    shared_gate=True,
)
_MOST_TABLES, _MOST_ROWS = 1000, 2**32  # finding that many primes must not hang on a bad config


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ngrams:
    """N-gram embeddings in some layers.

    Attributes:
        layers: indices of these layers.
        width: embedding size.
        streams: width of all residual streams together.
        kernel: kernel size of the convolution, dilated by `size`.
        size: n of the n-grams.
        heads: hash heads over all n-gram lengths.
    """

    layers: tuple[int, ...]
    width: int
    streams: int
    kernel: int
    size: int
    heads: int

    @property
    def cache(self) -> Cache:
        """A convolution state, and the ids of the last n - 1 tokens."""
        seen = (self.kernel - 1) * self.size  # earlier tokens that the dilated convolution needs
        memory = State(recurrent=self.size - 1, recurrent_dtype="int64")
        return Combined(caches=(State(conv=self.streams * seen), memory))


def read(facts: Facts) -> Blueprint:
    """Layers and weights of the text model (modeling_qwen4_exp.py)."""
    s = sizes(facts)
    kinds = _kinds(facts, s.layers)
    ngrams = _ngrams(facts, s.hidden)
    ffns, networks = mixture(facts, _MIXED, s.hidden, s.layers)
    attention, net = attention_of(s, kinds, "indexed_attention"), delta_net(facts, s.hidden)
    weights = [
        *embedding(s.vocab, s.hidden),
        *gated_attention(attention, bias=facts.flag("attention_bias")),
        *_indexer(facts, attention),
        *net.weights(projections(facts, net), kinds.count("linear_attention")),
        *networks,
        *_connections(facts, s, ngrams.streams),
        *_tables(facts, ngrams),
        *_gates(s, ngrams),
    ]
    return decoder(facts, s, weights, _layers(facts, s, ngrams, net.cache, tuple(zip(kinds, ffns, strict=True))))


def _kinds(facts: Facts, layers: int) -> Sequence[str]:
    interval = facts.integer("full_attention_interval", default=4)
    default = ["linear_attention" if (i + 1) % interval else "indexed_attention" for i in range(layers)]
    listed = facts.items("layer_types") or default
    kinds = [_WORDS.get(str(kind), "") for kind in listed]
    if "" in kinds or len(kinds) != layers:
        raise InvalidConfigError("", f"layer_types is not a list of {layers} kinds that {facts.model_type} knows")
    return kinds


def _layers(
    facts: Facts, s: Sizes, ngrams: _Ngrams, state: State, layers: Sequence[tuple[str, Ffn]]
) -> tuple[Layer, ...]:
    """All layers. The first one with an indexer also caches the positions, three per token, for all of them
    (`Qwen4ExpTextModel.forward`)."""
    first = next((index for index, (kind, _) in enumerate(layers) if kind == "indexed_attention"), None)
    attention, index_dim = kept_kv(s).cache, facts.integer("indexer_head_dim")
    found = []
    for index, (kind, ffn) in enumerate(layers):
        indexed = Indexed(attention=attention, index_dim=index_dim, position_dims=3 if index == first else 0)
        cache: Cache = state if kind == "linear_attention" else indexed
        if index in ngrams.layers:
            cache = Combined(caches=(cache, ngrams.cache))
        found.append(Layer(kind=kind, cache=cache, heads=0 if kind == "linear_attention" else s.heads, ffn=ffn))
    return tuple(found)


def _indexer(facts: Facts, s: Sizes) -> list[TensorGroup]:
    size = facts.integer("indexer_head_dim")
    heads = facts.integer("indexer_n_heads") + facts.integer("indexer_kv_heads")
    return [
        *linear("attention", "index_qk_proj", heads * size, s.hidden, count=s.layers),
        *norm(size, count=2 * s.layers, role="index_norm"),
    ]


def _connections(facts: Facts, s: Sizes, width: int) -> list[TensorGroup]:
    """Two hyper-connections per layer, and a final one, which only reads the streams and has no inject weight."""
    rank, count = facts.integer("hc_lowrank"), 2 * s.layers
    return [
        *norm(width, count=count + 1, role="hc_norm"),
        *linear("other", "input_mix_weight_down", rank, width, count=count + 1),
        *linear("other", "input_mix_weight_up", width, rank, count=count + 1),
        *linear("other", "block_inject_weight", facts.integer("hc_count"), width, count=count),
    ]


def _ngrams(facts: Facts, hidden: int) -> _Ngrams:
    listed = facts.items("ple_layer_ids") or ()
    return _Ngrams(
        # the key numbers layers from one
        layers=tuple(sorted({index - 1 for index in listed if isinstance(index, int)})),
        width=facts.integer("ple_embed_dim", default=hidden),
        streams=facts.integer("hc_count") * hidden,
        kernel=facts.integer("ple_conv_kernel_size"),
        size=facts.integer("ngram_size"),
        heads=(facts.integer("ngram_size") - 1) * facts.integer("heads_per_ngram"),
    )


def _tables(facts: Facts, ngrams: _Ngrams) -> list[TensorGroup]:
    """One embedding table per layer. Each head has a prime number of rows, the next one from `ngram_vocab_size_base`
    on; the sum over a layer's heads is padded."""
    base, multiple = facts.integer("ngram_vocab_size_base"), facts.integer("make_ngram_vocab_size_divisible_by")
    tables = ngrams.heads * len(ngrams.layers)
    if tables > _MOST_TABLES or base > _MOST_ROWS:
        raise InvalidConfigError("", f"{tables} tables of n-grams of {base} rows, expected fewer")
    primes = _primes(base)
    groups: list[TensorGroup] = []
    for _ in ngrams.layers:
        rows = sum(next(primes) for _ in range(ngrams.heads))
        groups += weight("embedding", "ngram_embedding", -(-rows // multiple) * multiple, ngrams.width // ngrams.heads)
    return groups


def _gates(s: Sizes, ngrams: _Ngrams) -> list[TensorGroup]:
    count = len(ngrams.layers)
    return [
        *linear("other", "key_proj", ngrams.streams, ngrams.width, count=count),
        *linear("other", "value_proj", s.hidden, ngrams.width, count=count),
        *norm(ngrams.streams, count=3 * count),
        *weight("other", "conv1d", ngrams.streams, 1, ngrams.kernel, count=count),
    ]


def _primes(first: int) -> Iterator[int]:
    """The prime numbers from `first` on."""
    number = max(first, 2)
    while True:
        if all(number % divisor for divisor in range(2, math.isqrt(number) + 1)):
            yield number
        number += 1
