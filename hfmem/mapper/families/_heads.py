"""The output head that a class adds to the base model, from the class name in `architectures`."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from hfmem.mapper.blueprint import head, weight
from hfmem.mapper.facts import Facts
from hfmem.mapper.values import TensorGroup

__all__ = ["Output", "labels", "output", "task"]

_TASKS = {
    "ForCausalLM": "causal_lm",
    "LMHeadModel": "causal_lm",
    "ForConditionalGeneration": "conditional_generation",
    "MTModel": "conditional_generation",  # Marian's
    "ForMaskedLM": "masked_lm",
    "ForPreTraining": "pre_training",
    "ForSequenceClassification": "sequence_classification",
    "ForTokenClassification": "token_classification",
    "ForQuestionAnswering": "question_answering",
    "ForMultipleChoice": "multiple_choice",
    "ForNextSentencePrediction": "next_sentence_prediction",
    "Model": "base",
}
_SUFFIX = re.compile(f"({'|'.join(_TASKS)})$")


class Output(NamedTuple):
    """A decoder's output layer.

    Attributes:
        width: its input size: the hidden size, or a smaller projection of it (OPT-350m).
        vocab: rows of the output embedding.
        tied: whether it is tied to the input embedding.
        bias: whether the LM head has a bias.
        role: module name.
        answers: outputs of a question-answering head; None where the class gives it one per label.
    """

    width: int
    vocab: int
    tied: bool
    bias: bool = False
    role: str = "lm_head"
    answers: int | None = 2


def task(facts: Facts, default: str) -> str:
    """The task of the first class in `architectures` (`causal_lm`, `base`, …); `default` if there is none; "" for a
    class with an unknown head."""
    named = facts.items("architectures")
    if not named or not isinstance(named[0], str):
        return default
    # configs may still name the class of another framework
    found = _SUFFIX.search(named[0].removeprefix("TF").removeprefix("Flax"))
    if found is None or named[0].endswith(("DoubleHeadsModel", "ForRewardModel")):
        return ""
    return _TASKS[found.group()]


def labels(facts: Facts, default: int = 2) -> int:
    """Labels of a classifier: from `id2label`, else `num_labels`, else `default` (2 in configuration_utils.py)."""
    named = facts.entries("id2label")
    return facts.integer("num_labels", default=default) if named is None else named


def output(facts: Facts, spec: Output) -> tuple[list[TensorGroup] | None, Literal["lm_head", "none"] | None]:
    """A decoder's head and its kind; None for the weights of an unknown class.

    The classification heads are those of modeling_layers.py (`GenericFor…`).
    """
    kind = task(facts, "causal_lm")
    if kind in ("causal_lm", "conditional_generation"):
        return head(spec.vocab, spec.width, tied=spec.tied, bias=spec.bias, role=spec.role), "lm_head"
    if kind == "base":
        return [], "none"
    if kind == "sequence_classification":
        return weight("lm_head", "score", labels(facts), spec.width), "none"
    if kind == "token_classification":
        bias = facts.flag("token_classification_bias", default=True)
        return head(labels(facts), spec.width, tied=False, bias=bias, role="score"), "none"
    if kind == "question_answering":
        outputs = labels(facts) if spec.answers is None else spec.answers
        return head(outputs, spec.width, tied=False, bias=True, role="qa_outputs"), "none"
    return None, None
