"""A model around a text model: the text family's own reader gives the decoder, and towers and projectors are added."""

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

# Text types that are another's under a second name.
_SAME = {"kimi_k2": "deepseek_v3", "qwen3_asr_text": "qwen3"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """How a type puts a text model together with other parts.

    Attributes:
        others: every weight besides the text model's and its head: (the whole's facts, the text's) -> groups. It raises
            UndescribedError where a part is not described; None where no configuration of the type is.
        text: the key of the text model's configuration; "" where it is the file's root itself.
        text_type: the text model's type where neither the class nor the file tells.
        flat: whether files without such a part have its keys at their root.
        merged: whether keys that the file's text model leaves out are those that the whole's class assumes, not those
            of the text model's own class.
        spoken: whether the text model is built with its own head, tied as its own configuration says, whichever of the
            whole's two classes runs.
        text_class: the class that is the text model alone, whatever other parts the file describes.
        tied: whose `tie_word_embeddings` the head follows: the whole's, the text's, or either's.
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
    """Layers and weights of the whole."""
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
    inner = read(text.changed(architectures=None, tie_word_embeddings=False))
    tied = _tied(facts, text, spec)
    head, kind = _head(facts, inner, tied=tied)
    others = _others(facts, text, spec) if own else None
    known = inner.groups is not None and head is not None and others is not None
    body = [group for group in inner.groups or () if group.component != "lm_head"]
    return Blueprint(
        architecture=replace(inner.architecture, model_type=facts.model_type, tied_embeddings=tied, head=kind),
        groups=(*body, *(head or ()), *(others or ())) if known else None,
    )


def _around(facts: Facts, text: Facts, spec: Whole, inner: Blueprint) -> Blueprint:
    """A whole of which one part is the text model with its head."""
    others = _others(facts, text, spec) if task(facts, "conditional_generation") in ("base", *_LANGUAGE) else None
    return Blueprint(
        architecture=replace(inner.architecture, model_type=facts.model_type),
        groups=None if inner.groups is None or others is None else (*inner.groups, *others),
    )


def _text(facts: Facts, spec: Whole) -> tuple[Facts, bool]:
    """The text model's facts, and whether the file is as the class writes it."""
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
    """The head of the whole's class; a language model's has what the text model's has, a tied one only its biases."""
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
