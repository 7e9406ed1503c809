"""BART and the encoder-decoders of its shape, for text and for speech (`modeling_<type>.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from hfmem.mapper.blueprint import Blueprint, embedding, head, norm, weight
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._heads import labels, task
from hfmem.mapper.families._seq2seq import Form, Stacks, added, attentions, form, networks, seq2seq, stack
from hfmem.mapper.values import TensorGroup

__all__ = ["STYLES", "read"]

_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
_NETWORK = ("fc1", "fc2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """One type's differences.

    Attributes:
        positions: rows of the position embeddings besides `max_position_embeddings`; None where they are computed.
        embedding_norm: a norm after the embeddings of each stack.
        final_norm: a norm after the last layer of each stack.
        key_bias: biases of keys.
        labels: a classifier's labels where the file does not tell.
        sound: the encoder hears: convolutions instead of an embedding. `whisper` always makes as many tokens.
    """

    positions: int | None = 0
    embedding_norm: bool = False
    final_norm: bool = True
    key_bias: bool = True
    labels: int = 2
    sound: Literal["", "whisper", "speech"] = ""


_BART = Style(positions=2, embedding_norm=True, final_norm=False)
STYLES: Final[dict[str, Style]] = {
    "bart": replace(_BART, labels=3),
    "blenderbot": Style(),
    "blenderbot-small": Style(embedding_norm=True, final_norm=False),
    "m2m_100": Style(positions=None),
    "marian": Style(final_norm=False),
    "mbart": Style(positions=2, embedding_norm=True),
    "mvp": _BART,
    "pegasus": Style(),
    "plbart": _BART,
    "speech_to_text": Style(positions=None, sound="speech"),
    "whisper": Style(key_bias=False, sound="whisper"),
}


def read(facts: Facts) -> Blueprint:
    """Layers and weights."""
    style = STYLES[facts.model_type]
    s, which = _stacks(facts, style), form(facts)
    output = _head(facts, s, which, labels(facts, style.labels))
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
        positions=facts.integer("max_target_positions" if style.sound else "max_position_embeddings"),
        source_positions=facts.integer("max_source_positions" if style.sound else "max_position_embeddings"),
        fixed=style.sound == "whisper",
    )


def _encoder(facts: Facts, s: Stacks, style: Style) -> list[TensorGroup]:
    one = s.encoder
    return [
        *attentions(s, _ATTENTION, count=one.layers, bias=True, key_bias=style.key_bias),
        *networks(s, one, _NETWORK, bias=True),
        *norm(s.hidden, count=2 * one.layers + style.embedding_norm + style.final_norm, bias=True),
        *_positions(s.source_positions or 0, s, style),
        *_convolutions(facts, s, style),
    ]


def _decoder(facts: Facts, s: Stacks, style: Style) -> list[TensorGroup]:  # noqa: ARG001 - as the encoder
    one = s.decoder
    return [
        *attentions(s, _ATTENTION, count=2 * one.layers, bias=True, key_bias=style.key_bias),
        *networks(s, one, _NETWORK, bias=True),
        *norm(s.hidden, count=3 * one.layers + style.embedding_norm + style.final_norm, bias=True),
        *_positions(s.positions or 0, s, style),
    ]


def _positions(rows: int, s: Stacks, style: Style) -> list[TensorGroup]:
    return [] if style.positions is None else embedding(rows + style.positions, s.hidden, role="embed_positions")


def _convolutions(facts: Facts, s: Stacks, style: Style) -> list[TensorGroup]:
    """What makes tokens of sound: two convolutions, or several that each halve the channels again (GLU)."""
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
        inputs = outputs // 2
    return groups


def _embeddings(facts: Facts, s: Stacks, style: Style, which: Form) -> list[TensorGroup]:
    """One table that both stacks share; without tying, the shared one and one of each stack. Marian may have one of
    each stack and none to share, its head tied to the decoder's."""
    if which == "decoder":
        return embedding(facts.integer("decoder_vocab_size", default=s.vocab), s.hidden)
    if not facts.flag("share_encoder_decoder_embeddings", default=True):
        rows = (s.vocab, facts.integer("decoder_vocab_size", default=s.vocab))
        return [group for count in rows for group in embedding(count, s.hidden)]
    if style.sound or s.tied:
        return [] if style.sound and which == "encoder" else embedding(s.vocab, s.hidden)
    return [group for _ in range(3) for group in embedding(s.vocab, s.hidden)]


def _head(facts: Facts, s: Stacks, which: Form, outputs: int) -> Sequence[TensorGroup] | None:
    """What the class adds; None where it is not described. Its question answering takes no other number of outputs."""
    named = facts.items("architectures") or ("",)
    if which == "decoder":
        return head(s.vocab, s.hidden, tied=s.tied) if task(facts, "causal_lm") == "causal_lm" else None
    if which != "both":
        return None
    translates = str(named[0]).endswith("MTModel")
    kind = "conditional_generation" if translates else task(facts, "conditional_generation")
    return None if kind == "token_classification" else added(kind, s, 2 if kind == "question_answering" else outputs)
