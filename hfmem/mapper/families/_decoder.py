"""Shared parts of decoders: sizes, attention and feed-forward weights, and which layers use a sliding window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hfmem.errors import InvalidConfigError
from hfmem.mapper.blueprint import Blueprint, linear
from hfmem.mapper.caches import KV
from hfmem.mapper.facts import Facts, MissingFactError
from hfmem.mapper.families._heads import Output, output
from hfmem.mapper.values import Architecture, Component, Dense, Experts, Ffn, Layer, TensorGroup

__all__ = [
    "MOST_LAYERS",
    "Schedule",
    "Sizes",
    "all_sliding",
    "decoder",
    "every",
    "feed_forward",
    "fused_attention",
    "layer_count",
    "layers_of",
    "never",
    "own_facts",
    "separate_attention",
    "sizes",
]


MOST_LAYERS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The sizes that every decoder has."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool

    @property
    def query(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def kv(self) -> int:
        """Width of all key heads together, and of all value heads."""
        return self.kv_heads * self.head_dim


def sizes(
    facts: Facts, *, hidden: int | None = None, kv_heads: int | None = None, head_dim: int | None = None
) -> Sizes:
    """Sizes from the usual config keys; the arguments override them for types that differ.

    Raises:
        MissingFactError: a multimodal config with the model_type of its text model: the sizes are in `text_config`.
    """
    if facts.part("text_config") is not None and not facts.has("hidden_size"):
        raise MissingFactError("hidden_size")
    hidden = facts.integer("hidden_size") if hidden is None else hidden
    heads = facts.integer("num_attention_heads")
    return Sizes(
        hidden=hidden,
        layers=layer_count(facts),
        heads=heads,
        kv_heads=facts.integer("num_key_value_heads", default=heads) if kv_heads is None else kv_heads,
        head_dim=facts.integer("head_dim", default=hidden // heads) if head_dim is None else head_dim,
        vocab=facts.integer("vocab_size"),
        tied=facts.flag("tie_word_embeddings"),
    )


def layer_count(facts: Facts, key: str = "num_hidden_layers") -> int:
    """The number of layers.

    Raises:
        InvalidConfigError: implausibly many; each layer becomes an object, so a bad file could exhaust memory.
    """
    layers = facts.integer(key)
    if layers > MOST_LAYERS:
        raise InvalidConfigError("", f"{key} is {layers}, expected at most {MOST_LAYERS}")
    return layers


def own_facts(listed: Facts, index: int) -> Facts:
    """The overrides of one layer in `per_layer_config`. Its keys are layer indices, which `save_pretrained` pads with
    zeros to equal length (integrations/heterogeneity/configuration_utils.py)."""
    for name in listed.names():
        if name.isdecimal() and int(name) == index:
            return listed.part(name) or Facts({})
    return Facts({})


def _changed_layers(facts: Facts) -> Sequence[Facts]:
    listed = facts.part("per_layer_config")
    return [] if listed is None else [listed.part(name) or Facts({}) for name in listed.names()]


def separate_attention(
    s: Sizes, names: Sequence[str] = ("q_proj", "k_proj", "v_proj", "o_proj"), *, bias: bool, out_bias: bool
) -> list[TensorGroup]:
    """Query, key, value and output projections of all layers as separate matrices."""
    query, key, value, out = names
    return [
        *linear("attention", query, s.query, s.hidden, count=s.layers, bias=bias),
        *linear("attention", key, s.kv, s.hidden, count=s.layers, bias=bias),
        *linear("attention", value, s.kv, s.hidden, count=s.layers, bias=bias),
        *linear("attention", out, s.hidden, s.query, count=s.layers, bias=out_bias),
    ]


def fused_attention(s: Sizes, names: Sequence[str], *, bias: bool, out_bias: bool) -> list[TensorGroup]:
    """The fused query/key/value projection and the output projection of all layers."""
    fused, out = names
    return [
        *linear("attention", fused, s.query + 2 * s.kv, s.hidden, count=s.layers, bias=bias),
        *linear("attention", out, s.hidden, s.query, count=s.layers, bias=out_bias),
    ]


def feed_forward(
    sizes_: tuple[int, int], names: Sequence[str], *, count: int, bias: bool = False, component: Component = "mlp"
) -> list[TensorGroup]:
    """Feed-forward networks with sizes (hidden, intermediate). The last of `names` is the down projection; the others
    project to the intermediate size, and one named `gate_up…` is the gate and up projection fused."""
    hidden, intermediate = sizes_
    groups: list[TensorGroup] = []
    for name in names[:-1]:
        outputs = 2 * intermediate if name.startswith("gate_up") else intermediate
        groups += linear(component, name, outputs, hidden, count=count, bias=bias)
    return groups + linear(component, names[-1], hidden, intermediate, count=count, bias=bias)


# Which layers use a sliding window, for files without `layer_types`: (facts, number of layers) -> a flag per layer.
Schedule = Callable[[Facts, int], Sequence[bool]]


def never(facts: Facts, layers: int) -> Sequence[bool]:  # noqa: ARG001 - a schedule
    """Full attention everywhere."""
    return (False,) * layers


def all_sliding(facts: Facts, layers: int) -> Sequence[bool]:
    """A sliding window in every layer if the config has one (`get_layer_types_and_kwargs` in cache_utils.py)."""
    return (facts.optional_integer("sliding_window") is not None,) * layers


def every(pattern: int, key: str = "") -> Schedule:
    """Full attention in every `pattern`-th layer, a sliding window in the others; the config's `key` overrides
    `pattern`."""

    def schedule(facts: Facts, layers: int) -> Sequence[bool]:
        period = facts.integer(key, default=pattern) if key else pattern
        return [(index + 1) % period != 0 for index in range(layers)]

    return schedule


def layers_of(
    facts: Facts, s: Sizes, ffn: Ffn | Sequence[Ffn], schedule: Schedule = all_sliding, window: int | None = None
) -> tuple[Layer, ...]:
    """All layers, with the cache that `DynamicCache` in cache_utils.py creates for each.

    `layer_types` in the file takes precedence over `schedule`. A sliding layer is counted with `sliding_window` tokens,
    those that the next token attends to; the implementation keeps one less, as the token itself is not cached yet.

    Raises:
        InvalidConfigError: `per_layer_config` gives layers sizes of their own, which this reader does not support.
    """
    if any(facts_.names() for facts_ in _changed_layers(facts)):
        raise InvalidConfigError("", f"per_layer_config gives layers of {facts.model_type} sizes of their own")
    window = facts.optional_integer("sliding_window") if window is None else window
    ffns = [ffn] * s.layers if isinstance(ffn, Dense | Experts) else ffn
    windows = {"full_attention": None, "sliding_attention": window or None}  # 0 is no window
    if facts.has("attention_chunk_size"):
        windows["chunked_attention"] = facts.integer("attention_chunk_size")
    return tuple(
        Layer(
            kind=kind,
            cache=KV(heads=s.kv_heads, key_dim=s.head_dim, value_dim=s.head_dim, window=windows[kind]),
            heads=s.heads,
            ffn=ffn_,
        )
        for kind, ffn_ in zip(_kinds(facts, s.layers, schedule, tuple(windows)), ffns, strict=True)
    )


def _kinds(facts: Facts, layers: int, schedule: Schedule, known: Sequence[str]) -> Sequence[str]:
    listed = facts.items("layer_types")
    if listed is None:
        return ["sliding_attention" if slides else "full_attention" for slides in schedule(facts, layers)]
    # "attention" is the older name
    kinds = ["full_attention" if kind == "attention" else str(kind) for kind in listed]
    if len(kinds) != layers:
        raise InvalidConfigError("", f"layer_types has {len(kinds)} entries for {layers} layers")
    for kind in kinds:
        if kind not in known:
            raise InvalidConfigError("", f"layer_types has {kind!r}, which is not a layer type of {facts.model_type}")
    return kinds


def decoder(
    facts: Facts,
    s: Sizes,
    weights: Sequence[TensorGroup],
    layers: tuple[Layer, ...],
    out: Output | None = None,
) -> Blueprint:
    """A decoder with `weights` (all but the head) and `layers`; the head follows from the class in `architectures`."""
    head, kind = output(facts, out or Output(width=s.hidden, vocab=s.vocab, tied=s.tied))
    experts = next((layer.ffn for layer in layers if isinstance(layer.ffn, Experts)), None)
    dense = next((layer.ffn for layer in layers if isinstance(layer.ffn, Dense)), None)
    first = dense or experts  # `intermediate_size` in configs is that of dense layers, if there are any
    return Blueprint(
        architecture=Architecture(
            model_type=facts.model_type,
            hidden_size=s.hidden,
            vocab_size=s.vocab,
            max_positions=facts.optional_integer(
                "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx"
            ),
            tied_embeddings=s.tied,
            attention_heads=s.heads,
            kv_heads=s.kv_heads,
            head_dim=s.head_dim,
            intermediate_size=None if first is None else first.intermediate,
            experts=None if experts is None else experts.count,
            experts_per_token=None if experts is None else experts.per_token,
            layers=layers,
            head=kind,
        ),
        groups=None if head is None else (*weights, *head),
    )
