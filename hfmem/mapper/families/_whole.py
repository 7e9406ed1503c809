"""Multimodal models: the reader of the text model's family describes the decoder; towers and projectors are added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hfmem.mapper.blueprint import Blueprint
from hfmem.mapper.facts import Facts
from hfmem.mapper.families import reader
from hfmem.mapper.families._blocks import UndescribedError
from hfmem.mapper.families._heads import Output, output, task
from hfmem.mapper.values import Architecture, TensorGroup

__all__ = ["Whole", "read_whole"]

_LANGUAGE = ("causal_lm", "conditional_generation")

# Text model types that are another type under a second name.
_SAME = {"kimi_k2": "deepseek_v3", "qwen3_asr_text": "qwen3"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """How a multimodal type combines a text model with other parts.

    Attributes:
        others: all weights except those of the text model and its head: (facts of the whole, facts of the text model)
            -> groups. It raises UndescribedError for a part that is not described; None if the type is not described.
        text: the key of the text model's config; "" where it is the root of the file.
        text_type: the text model's type where neither class nor file states it.
        flat: whether files without the nested config have its keys at the root.
        merged: whether missing keys of the nested config default to those of the whole's class, and not of the text
            model's own class.
        spoken: whether the text model always has its own head, tied according to its own config, in both classes of
            the whole.
        text_class: the class that is the text model alone, even if the file describes other parts.
        tied: whose `tie_word_embeddings` applies to the head: the whole's, the text model's, or either.
    """

    others: Callable[[Facts, Facts], Sequence[TensorGroup]] | None = None
    text: str = "text_config"
    text_type: str = "llama"
    flat: bool = False
    merged: bool = False
    spoken: bool = False
    text_class: str = ""
    tied: Literal["whole", "text", "either"] = "whole"


def read_whole(facts: Facts, spec: Whole) -> Blueprint:
    """Layers and weights of the whole model."""
    text, own = _text(facts, spec)
    read = reader(text.model_type)
    if read is None:
        reason = f"its text model_type, '{text.model_type}', is not supported yet"
        return Blueprint(architecture=Architecture(model_type=facts.model_type, unknown=reason), groups=None)
    named = facts.items("architectures")
    if spec.text_class and named and named[0] == spec.text_class:
        alone = read(text.changed(architectures=named))
        return replace(alone, architecture=replace(alone.architecture, model_type=facts.model_type))
    if spec.spoken:
        return _around(facts, text, spec, read(text.changed(architectures=None)))
    # the text model is read with its own LM head, which is dropped below if the whole ties it
    inner = read(text.changed(architectures=None, tie_word_embeddings=False))
    tied = _tied(facts, text, spec)
    head, kind = _head(facts, inner, tied=tied)
    others = _others(facts, text, spec) if own else None
    known = inner.groups is not None and head is not None and others is not None
    body = [group for group in inner.groups or () if group.component != "lm_head"]  # `_head` adds it again
    return Blueprint(
        architecture=replace(inner.architecture, model_type=facts.model_type, tied_embeddings=tied, head=kind),
        groups=(*body, *(head or ()), *(others or ())) if known else None,
    )


def _around(facts: Facts, text: Facts, spec: Whole, inner: Blueprint) -> Blueprint:
    """A whole that contains the text model together with its head."""
    others = _others(facts, text, spec) if task(facts, "conditional_generation") in ("base", *_LANGUAGE) else None
    return Blueprint(
        architecture=replace(inner.architecture, model_type=facts.model_type),
        groups=None if inner.groups is None or others is None else (*inner.groups, *others),
    )


def _text(facts: Facts, spec: Whole) -> tuple[Facts, bool]:
    """The text model's facts, and whether the file has the structure that the class writes."""
    if not spec.text:
        return facts.changed(model_type=spec.text_type), True
    outer = facts.part("thinker_config") if facts.part(spec.text, "llm_config", "language_config") is None else None
    own = outer is None
    around = facts if outer is None else outer.changed(model_type=facts.model_type)
    text = around.nested(spec.text, spec.text_type, merged=spec.merged)
    if own and facts.part(spec.text) is None:
        key = next((key for key in ("llm_config", "language_config") if facts.part(key) is not None), "")
        if key or facts.has("hidden_size"):
            flat = facts.nested(key, spec.text_type) if key else facts.changed(model_type=text.model_type)
            return flat, spec.flat and not key
    same = _SAME.get(text.model_type)
    return (text.changed(model_type=same) if same else text), own


def _tied(facts: Facts, text: Facts, spec: Whole) -> bool:
    whole = spec.tied != "text" and facts.flag("tie_word_embeddings")
    return whole or (spec.tied != "whole" and text.flag("tie_word_embeddings"))


def _head(
    facts: Facts, inner: Blueprint, *, tied: bool
) -> tuple[list[TensorGroup] | None, Literal["lm_head", "none"] | None]:
    """The head of the whole's class. An LM head is that of the text model; if tied, only its biases are new weights."""
    if task(facts, "conditional_generation") in _LANGUAGE:
        groups = [group for group in inner.groups or () if group.component == "lm_head"]
        return [group for group in groups if not tied or group.role.endswith(".bias")], "lm_head"
    sizes = inner.architecture
    return output(facts, Output(width=sizes.hidden_size or 0, vocab=sizes.vocab_size or 0, tied=tied))


def _others(facts: Facts, text: Facts, spec: Whole) -> Sequence[TensorGroup] | None:
    if spec.others is None:
        return None
    try:
        return spec.others(facts, text)
    except UndescribedError:
        return None
