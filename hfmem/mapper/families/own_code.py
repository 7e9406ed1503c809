"""Decoders with remote code (`auto_map`), which is never run: each row describes that code.

Nearly all are Llama with other names and a few differences. Their config keys are renamed to Llama's, and missing keys
get the defaults of the repository's configuration class, which are in the row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from hfmem.mapper.blueprint import Blueprint, weight
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._decoder import decoder, feed_forward, layers_of, never
from hfmem.mapper.families._dialect import Dialect, attention, flag, norms, output_of, sizes_of
from hfmem.mapper.families._mixture import DEEPSEEK, Mixture, mixture
from hfmem.mapper.values import Dense, Ffn, TensorGroup

__all__ = ["OWN", "TYPES", "Own", "read", "read_own"]

Words = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """One type with remote code.

    Attributes:
        dialect: its differences from Llama, with Llama's config keys.
        keys: Llama's config key -> the file's key.
        prepared: further keys of Llama, computed from the file.
        defaults: defaults of the type's configuration class.
        mixed: its experts; None for a dense model.
        classes: class names that do not show their head, mapped to equivalent names that do.
        reward: name of the single-output head of a reward model; "" for none.
        weights: whether all weights are described; False leaves them unknown.
    """

    dialect: Dialect
    keys: Mapping[str, str] = field(default_factory=dict)
    prepared: Callable[[Facts], Words] = lambda _: {}
    defaults: Words = field(default_factory=dict)
    mixed: Mixture | None = None
    classes: Mapping[str, str] = field(default_factory=dict)
    reward: str = ""
    weights: bool = True


_UNTIED: Final[Words] = {"tie_word_embeddings": False}
_FUSED_MLP: Final = ("gate_up_proj", "down_proj")


def _chatglm_words(facts: Facts) -> Words:
    """configuration_chatglm.py: `multi_query_group_num` applies only with `multi_query_attention`; `add_bias_linear`
    adds a bias to all linear layers, `add_qkv_bias` to the fused q, k, v projection only."""
    grouped = facts.flag("multi_query_attention")
    every = facts.flag("add_bias_linear")
    heads = facts.integer("multi_query_group_num") if grouped else facts.integer("num_attention_heads")
    return {
        "num_key_value_heads": heads,
        "attention_bias": every or facts.flag("add_qkv_bias"),
        "mlp_bias": every,
    }


def _qwen_words(facts: Facts) -> Words:
    """modeling_qwen.py: `intermediate_size` is that of gate and up projection together; with `no_bias`, only the fused
    q, k, v projection has a bias."""
    return {
        "intermediate_size": facts.integer("intermediate_size") // 2,
        "mlp_bias": not facts.flag("no_bias", default=True),
    }


def _phi_words(facts: Facts) -> Words:
    """configuration_phi.py of 2023: `n_head_kv` defaults to `n_head`, `n_inner` to 4 × `n_embd`."""
    heads = facts.integer("n_head")
    return {
        "num_key_value_heads": facts.integer("n_head_kv", default=heads),
        "intermediate_size": facts.integer("n_inner", default=4 * facts.integer("n_embd")),
    }


def _by_frequency(facts: Facts, layers: int) -> Sequence[bool]:
    """Every `moe_layer_freq`-th layer from `first_k_dense_replace` on (modeling_deepseek.py)."""
    first, step = facts.integer("first_k_dense_replace"), facts.integer("moe_layer_freq")
    return [index >= first and index % step == 0 for index in range(layers)]


def _windows_if_used(facts: Facts, layers: int) -> Sequence[bool]:
    """Qwen2's sliding windows, which MiMo's files disable."""
    used = facts.flag("use_sliding_window") and facts.optional_integer("sliding_window") is not None
    first = facts.integer("max_window_layers", default=0) if used else layers
    return [index >= first for index in range(layers)]


_LLAMA = Dialect(schedule=never)
OWN: Final[dict[str, Own]] = {
    # modeling_baichuan.py: a fused q, k, v projection; NormHead has the weights of a plain head
    "baichuan": Own(dialect=replace(_LLAMA, fused=True, names=("W_pack", "o_proj")), defaults=_UNTIED),
    # modeling_chatglm.py of ChatGLM2, ChatGLM3 and GLM-4-9B; the base class includes the output layer
    "chatglm": Own(
        dialect=Dialect(
            fused=True,
            names=("query_key_value", "dense"),
            qkv_bias="attention_bias",
            out_bias="mlp_bias",
            mlp=_FUSED_MLP,
            mlp_bias="mlp_bias",
            schedule=never,
        ),
        keys={
            "num_hidden_layers": "num_layers",
            "vocab_size": "padded_vocab_size",
            "head_dim": "kv_channels",
            "intermediate_size": "ffn_hidden_size",
        },
        prepared=_chatglm_words,
        defaults=_UNTIED,
        classes={"ChatGLMModel": "ChatGLMForConditionalGeneration"},
    ),
    # modeling_deepseek.py of DeepSeekMoE-16B
    "deepseek": Own(
        dialect=replace(_LLAMA, qkv_bias="attention_bias", out_bias="attention_bias"),
        mixed=replace(DEEPSEEK, sparse=_by_frequency),
        defaults={**_UNTIED, "moe_layer_freq": 1, "first_k_dense_replace": 0},
    ),
    # the decoder of Falcon-Perception; its heads for coordinates and masks are not described
    "falcon_perception": Own(
        dialect=_LLAMA,
        keys={
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "num_key_value_heads": "n_kv_heads",
            "intermediate_size": "ffn_dim",
        },
        weights=False,
    ),
    # modeling_internlm.py: `bias` applies to attention only
    "internlm": Own(dialect=replace(_LLAMA, qkv_bias="bias", out_bias="bias"), defaults={**_UNTIED, "bias": True}),
    # modeling_internlm2.py
    "internlm2": Own(
        dialect=replace(
            _LLAMA, fused=True, names=("wqkv", "wo"), mlp=("w1", "w3", "w2"), qkv_bias="bias", out_bias="bias"
        ),
        defaults={**_UNTIED, "bias": True},
        reward="v_head",
    ),
    # modeling_mimo.py: Qwen2; its class does not load the MTP layers
    "mimo": Own(dialect=Dialect(qkv_bias="attention_bias", schedule=_windows_if_used), defaults=_UNTIED),
    # modeling_minicpm.py of MiniCPM 1, 2 and MiniCPM-MoE-8x2B
    "minicpm": Own(
        dialect=replace(_LLAMA, qkv_bias="attention_bias", out_bias="attention_bias"),
        mixed=Mixture(count="num_experts"),
        defaults={"tie_word_embeddings": True, "num_experts": 0, "attention_bias": False},
    ),
    # the decoder of modeling_molmo.py; its vision tower is not described
    "molmo": Own(dialect=_LLAMA, weights=False),
    # modeling_minicpmv.py: the language model's sizes are at the root; tower and resampler are not described
    "minicpmv": Own(dialect=_LLAMA, weights=False),
    # modeling_orion.py: LayerNorm
    "orion": Own(dialect=replace(_LLAMA, norm_bias=True), defaults=_UNTIED),
    # modeling_phi.py of October 2023: parallel branches after one norm
    "phi-msft": Own(
        dialect=Dialect(
            fused=True,
            names=("Wqkv", "out_proj"),
            qkv_bias=True,
            out_bias=True,
            mlp=("fc1", "fc2"),
            mlp_bias=True,
            head_bias=True,
            norms=1,
            norm_bias=True,
            schedule=never,
        ),
        keys={
            "hidden_size": "n_embd",
            "num_hidden_layers": "n_layer",
            "num_attention_heads": "n_head",
            "max_position_embeddings": "n_positions",
        },
        prepared=_phi_words,
        defaults=_UNTIED,
    ),
    # modeling_phi3_small.py: all linear layers have biases; block-sparse layers cache all tokens too
    "phi3small": Own(
        dialect=Dialect(
            fused=True,
            names=("query_key_value", "dense"),
            qkv_bias=True,
            out_bias=True,
            mlp=_FUSED_MLP,
            mlp_bias=True,
            norm_bias=True,
            schedule=never,
        ),
        keys={"intermediate_size": "ff_intermediate_size"},
        defaults={"tie_word_embeddings": True},
    ),
    # modeling_qwen.py of 2023
    "qwen": Own(
        dialect=Dialect(
            fused=True,
            names=("c_attn", "c_proj"),
            qkv_bias=True,
            out_bias="mlp_bias",
            mlp=("w1", "w2", "c_proj"),
            mlp_bias="mlp_bias",
            schedule=never,
        ),
        keys={"head_dim": "kv_channels"},
        prepared=_qwen_words,
        defaults=_UNTIED,
    ),
    # modeling_xverse.py
    "xverse": Own(dialect=_LLAMA, defaults=_UNTIED),
}

TYPES: Final = frozenset(OWN)


def read(facts: Facts) -> Blueprint:
    """Layers and weights of a type in the table."""
    return read_own(facts, OWN[facts.model_type])


def read_own(facts: Facts, own: Own) -> Blueprint:
    """Layers and weights for a given row."""
    words = _in_llamas_words(facts.alone(), own)
    named = (words.items("architectures") or ("",))[0]
    if own.reward and isinstance(named, str) and named.endswith("ForRewardModel"):
        # the class for rewards has the model without its LM head
        plain = _decoder(words.alone(architectures=["Model"]), own)
        head = weight("lm_head", own.reward, 1, plain.architecture.hidden_size or 0)
        return replace(plain, groups=(*(plain.groups or ()), *head))
    if named in own.classes:
        words = words.alone(architectures=[own.classes[named]])
    return _decoder(words, own)


def _in_llamas_words(facts: Facts, own: Own) -> Facts:
    absent = {key: value for key, value in own.defaults.items() if not facts.has(key)}
    filled = facts.alone(**absent)
    renamed = {word: filled.optional_integer(key) for word, key in own.keys.items()}
    return filled.alone(**renamed).alone(**own.prepared(filled))


def _decoder(facts: Facts, own: Own) -> Blueprint:
    s = sizes_of(facts, own.dialect)
    ffns, networks = _networks(facts, own, s.hidden, s.layers)
    weights = [*attention(facts, s, own.dialect), *networks, *norms(facts, s, own.dialect)]
    layers = layers_of(facts, s, ffns, own.dialect.schedule)
    blueprint = decoder(facts, s, weights, layers, output_of(facts, s, own.dialect))
    return blueprint if own.weights else replace(blueprint, groups=None)


def _networks(facts: Facts, own: Own, hidden: int, layers: int) -> tuple[Sequence[Ffn], list[TensorGroup]]:
    if own.mixed is not None:
        return mixture(facts, own.mixed, hidden, layers)
    names, inner = own.dialect.mlp, facts.integer("intermediate_size")
    gated = len(names) == 3 or names[0].startswith("gate_up")
    groups = feed_forward((hidden, inner), names, count=layers, bias=flag(facts, own.dialect.mlp_bias))
    return (Dense(intermediate=inner, gated=gated),) * layers, groups
