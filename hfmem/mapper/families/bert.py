"""BERT and related encoders: RoBERTa, XLM-RoBERTa, CamemBERT, DistilBERT, ALBERT, ELECTRA, MPNet, ERNIE, and pre-norm
variants, which have a final norm in place of the embeddings' norm."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from hfmem.mapper.blueprint import Blueprint, embedding, norm, weight
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._encoder import Heads, Widths, blocks, encoder, widths
from hfmem.mapper.families._heads import task
from hfmem.mapper.values import TensorGroup

__all__ = ["read"]

_CLASSIFIES = frozenset({"sequence_classification"})
_ROBERTA = Heads(pooled=frozenset({"base", "multiple_choice"}), dense=_CLASSIFIES)
_BERT = Heads(
    pooled=frozenset({"base", "pre_training", "next_sentence_prediction", "sequence_classification", "multiple_choice"})
)
_HEADS: Final[dict[str, Heads]] = {
    "albert": Heads(
        pooled=frozenset({"base", "pre_training", "sequence_classification", "multiple_choice"}),
        pairs=0,
        crosses=False,
    ),
    "bert": _BERT,
    "camembert": _ROBERTA,
    "data2vec-text": _ROBERTA,
    "distilbert": Heads(
        dense=frozenset({"sequence_classification", "multiple_choice"}), untied_biases=1, crosses=False
    ),
    "electra": Heads(dense=_CLASSIFIES, untied_biases=1, unknown=frozenset({"multiple_choice"})),
    "ernie": _BERT,
    "megatron-bert": _BERT,
    "mpnet": replace(_ROBERTA, crosses=False),
    "roberta": _ROBERTA,
    "roberta-prelayernorm": _ROBERTA,
    "roformer": Heads(dense=_CLASSIFIES, answers=2),
    "xlm-roberta": _ROBERTA,
    "xlm-roberta-xl": _ROBERTA,
}


def read(facts: Facts) -> Blueprint:
    """Layers and weights (`modeling_<type>.py`)."""
    w = widths(facts, "hidden_dim" if facts.model_type == "distilbert" else "intermediate_size")
    weights = [*_embeddings(facts, w), *blocks(w, _block_count(facts, w))]
    if facts.model_type == "mpnet":
        buckets = facts.integer("relative_attention_num_buckets")
        weights += weight("attention", "relative_attention_bias", buckets, w.heads)
    if facts.model_type == "roberta-prelayernorm":
        weights += norm(w.hidden, bias=True)
    if facts.model_type == "bert-generation":
        return _generating(facts, w, weights)
    if facts.model_type == "electra" and task(facts, "base") == "pre_training":
        return encoder(facts, w, weights, _discriminator(w))
    return encoder(facts, w, weights, _HEADS[facts.model_type])


def _generating(facts: Facts, w: Widths, weights: list[TensorGroup]) -> Blueprint:
    """BertGenerationEncoder, and BertGenerationDecoder, whose head is the tied embedding with a bias."""
    named = str((facts.items("architectures") or ("Decoder",))[0])
    speaks = named.endswith(("Decoder", "ForCausalLM"))
    facts = facts.changed(architectures=["ForCausalLM" if speaks else "Model"])
    return encoder(facts, w, weights, replace(_BERT, pooled=frozenset(), transform=not speaks))


def _embeddings(facts: Facts, w: Widths) -> list[TensorGroup]:
    """Embeddings of words, positions and token types, and the projection to the hidden size if they are smaller."""
    rotary = facts.model_type == "roformer"  # its sinusoidal table has rows of head_dim
    width = w.hidden // w.heads if rotary else w.embedding
    groups = [
        *embedding(w.vocab, w.embedding, role="word_embeddings"),
        *embedding(facts.integer("max_position_embeddings"), width, role="position_embeddings"),
        *norm(w.embedding, bias=True),
    ]
    if facts.model_type not in ("bert-generation", "distilbert", "mpnet"):
        groups += embedding(facts.integer("type_vocab_size"), w.embedding, role="token_type_embeddings")
    if facts.model_type == "ernie" and facts.flag("use_task_id"):
        groups += embedding(facts.integer("task_type_vocab_size"), w.embedding, role="task_type_embeddings")
    if w.embedding != w.hidden or facts.model_type == "albert":
        groups += weight("embedding", "embeddings_project", w.hidden, w.embedding)
        groups += weight("embedding", "embeddings_project.bias", w.hidden)
    return groups


def _block_count(facts: Facts, w: Widths) -> int:
    """The number of blocks with weights of their own: ALBERT shares blocks between layers."""
    if facts.model_type != "albert":
        return w.layers
    return facts.integer("num_hidden_groups") * facts.integer("inner_group_num")


def _discriminator(w: Widths) -> list[TensorGroup]:
    """ElectraForPreTraining's head, which predicts whether a token was replaced."""
    return [
        *weight("lm_head", "dense", w.hidden, w.hidden),
        *weight("lm_head", "dense.bias", w.hidden),
        *weight("lm_head", "dense_prediction", 1, w.hidden),
        *weight("lm_head", "dense_prediction.bias", 1),
    ]
