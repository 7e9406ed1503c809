"""BART and related encoder-decoders, for text and for speech (`modeling_<type>.py`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from hfmem.mapper.blueprint import Blueprint, embedding, head, linear, norm, weight
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._dialect import Flag, flag
from hfmem.mapper.families._heads import labels, task
from hfmem.mapper.families._seq2seq import Form, Stacks, added, attentions, form, networks, seq2seq, stack
from hfmem.mapper.values import TensorGroup

__all__ = ["STYLES", "read"]

_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
_NETWORK = ("fc1", "fc2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a type differs.

    Attributes:
        positions: rows of the position embeddings beyond `max_position_embeddings`; None for sinusoidal positions.
        embedding_norm: whether each stack has a norm after the embeddings.
        final_norm: whether each stack has a norm after the last layer.
        bias, key_bias: biases of the attention projections, and of the key projection.
        lengths: config keys of the maximum lengths of encoder and decoder.
        more: further parameters of the encoder.
        alone_tied: whether the class with only the decoder can tie its head to the embedding.
        labels: default number of a classifier's labels.
        sound: the encoder reads audio, with convolutions in place of an embedding; `whisper` has a fixed length.
    """

    positions: int | None = 0
    embedding_norm: bool = False
    final_norm: bool = True
    bias: Flag = True
    key_bias: bool = True
    lengths: tuple[str, str] = ("max_position_embeddings", "max_position_embeddings")
    more: Callable[[Facts, Stacks], list[TensorGroup]] = lambda _, __: []
    alone_tied: bool = True
    labels: int = 2
    sound: Literal["", "whisper", "speech"] = ""


def _global_attention(_: Facts, s: Stacks) -> list[TensorGroup]:
    """Projections of tokens with global attention (LEDEncoderSelfAttention)."""
    groups: list[TensorGroup] = []
    for role in ("query_global", "key_global", "value_global"):
        groups += linear("attention", role, s.hidden, s.hidden, count=s.encoder.layers, bias=True)
    return groups


def _global_tokens(facts: Facts, s: Stacks) -> list[TensorGroup]:
    """Embeddings of global tokens, and their norm in each layer (PegasusXEncoder)."""
    tokens = embedding(facts.integer("num_global_tokens"), s.hidden, role="embed_global")
    return tokens + norm(s.hidden, count=s.encoder.layers, bias=True)


_SPOKEN = ("max_source_positions", "max_target_positions")
_BART = Style(positions=2, embedding_norm=True, final_norm=False)
STYLES: Final[dict[str, Style]] = {
    "bart": replace(_BART, labels=3),
    "bigbird_pegasus": Style(bias="use_bias", alone_tied=False),
    "blenderbot": Style(),
    "blenderbot-small": Style(embedding_norm=True, final_norm=False),
    "led": Style(
        embedding_norm=True,
        final_norm=False,
        lengths=("max_encoder_position_embeddings", "max_decoder_position_embeddings"),
        more=_global_attention,
    ),
    "m2m_100": Style(positions=None),
    "marian": Style(final_norm=False),
    "mbart": Style(positions=2, embedding_norm=True),
    "mvp": _BART,
    "pegasus": Style(),
    "pegasus_x": Style(positions=None, bias=False, more=_global_tokens),
    "plbart": _BART,
    "speech_to_text": Style(positions=None, sound="speech", lengths=_SPOKEN),
    "whisper": Style(key_bias=False, sound="whisper", lengths=_SPOKEN),
}


def read(facts: Facts) -> Blueprint:
    """Layers and weights."""
    style = STYLES[facts.model_type]
    s, which = _stacks(facts, style), form(facts)
    output = _head(facts, s, style, which)
    if output is None or facts.flag("use_prompt"):
        return seq2seq(facts, s, None)
    groups = [] if which == "decoder" else _encoder(facts, s, style)
    groups += [] if which == "encoder" else _decoder(facts, s, style)
    return seq2seq(facts, s, [*groups, *_embeddings(facts, s, style, which), *output])


def _stacks(facts: Facts, style: Style) -> Stacks:
    hidden = facts.integer("d_model")
    encoder = stack(facts, "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim")
    decoder = stack(facts, "decoder_layers", "decoder_attention_heads", "decoder_ffn_dim")
    return Stacks(
        hidden=hidden,
        head_dim=hidden // decoder.heads,
        vocab=facts.integer("vocab_size"),
        tied=facts.flag("tie_word_embeddings", default=True),
        encoder=encoder,
        decoder=decoder,
        positions=facts.integer(style.lengths[1]),
        source_positions=facts.integer(style.lengths[0]),
        fixed=style.sound == "whisper",
    )


def _encoder(facts: Facts, s: Stacks, style: Style) -> list[TensorGroup]:
    one = s.encoder
    return [
        *attentions(s, _ATTENTION, count=one.layers, bias=flag(facts, style.bias), key_bias=style.key_bias),
        *networks(s, one, _NETWORK, bias=True),
        *norm(s.hidden, count=2 * one.layers + style.embedding_norm + style.final_norm, bias=True),
        *_positions(s.source_positions or 0, s, style),
        *_convolutions(facts, s, style),
        *style.more(facts, s),
    ]


def _decoder(facts: Facts, s: Stacks, style: Style) -> list[TensorGroup]:
    one = s.decoder
    return [
        *attentions(s, _ATTENTION, count=2 * one.layers, bias=flag(facts, style.bias), key_bias=style.key_bias),
        *networks(s, one, _NETWORK, bias=True),
        *norm(s.hidden, count=3 * one.layers + style.embedding_norm + style.final_norm, bias=True),
        *_positions(s.positions or 0, s, style),
    ]


def _positions(rows: int, s: Stacks, style: Style) -> list[TensorGroup]:
    return [] if style.positions is None else embedding(rows + style.positions, s.hidden, role="embed_positions")


def _convolutions(facts: Facts, s: Stacks, style: Style) -> list[TensorGroup]:
    """The convolutions of an audio encoder: two, or several with a GLU each, which halves the channels."""
    if style.sound == "whisper":
        return [
            *weight("audio", "conv1", s.hidden, facts.integer("num_mel_bins"), 3),
            *weight("audio", "conv2", s.hidden, s.hidden, 3),
            *weight("audio", "conv.bias", s.hidden, count=2),
        ]
    if not style.sound:
        return []
    groups: list[TensorGroup] = []
    inputs = facts.integer("input_feat_per_channel") * facts.integer("input_channels")
    kernels = facts.integers("conv_kernel_sizes")
    for index, kernel in enumerate(kernels):
        last = index == len(kernels) - 1
        outputs = 2 * s.hidden if last else facts.integer("conv_channels")
        groups += weight("audio", "conv", outputs, inputs, kernel) + weight("audio", "conv.bias", outputs)
        inputs = outputs // 2  # each convolution is followed by a GLU, which halves the channels
    return groups


def _embeddings(facts: Facts, s: Stacks, style: Style, which: Form) -> list[TensorGroup]:
    """Token embeddings: one table shared by both stacks; without tying, the shared table and one per stack. Marian may
    have one table per stack and no shared one, with its head tied to the decoder's."""
    if which == "decoder":
        return embedding(facts.integer("decoder_vocab_size", default=s.vocab), s.hidden)
    if not facts.flag("share_encoder_decoder_embeddings", default=True):
        rows = (s.vocab, facts.integer("decoder_vocab_size", default=s.vocab))
        return [group for count in rows for group in embedding(count, s.hidden)]
    if style.sound or s.tied:
        return [] if style.sound and which == "encoder" else embedding(s.vocab, s.hidden)
    return [group for _ in range(3) for group in embedding(s.vocab, s.hidden)]


def _head(facts: Facts, s: Stacks, style: Style, which: Form) -> Sequence[TensorGroup] | None:
    """The head of the class; None where it is not described. Question answering always has two outputs."""
    named = facts.items("architectures") or ("",)
    if which == "decoder":
        tied = s.tied and style.alone_tied
        return head(s.vocab, s.hidden, tied=tied) if task(facts, "causal_lm") == "causal_lm" else None
    if which != "both":
        return None
    translates = str(named[0]).endswith("MTModel")
    kind = "conditional_generation" if translates else task(facts, "conditional_generation")
    outputs = 2 if kind == "question_answering" else labels(facts, style.labels)
    return None if kind == "token_classification" else added(kind, s, outputs)
