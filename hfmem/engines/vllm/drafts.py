"""Speculative decoding in a vLLM server: the draft's weights, its layers of KV cache, and what it changes elsewhere.

* `mtp`: the checkpoint's own prediction layers, with the model's embedding and head
  (vLLM 0.33.0, `v1/spec_decode/llm_base_proposer.py`). All of them are loaded, however many tokens are drafted.
* `eagle`, `eagle3`: a trained head with layers of its own. An embedding of the same shape as the model's is a copy and
  not kept; `eagle` has no head of its own either.
* `draft_model`: a whole model beside it, split over the same ranks.
* `ngram`: nothing on the GPU.

Layers of a draft have KV cache beside the model's, and states of recurrent layers are kept for each drafted token
(`MambaSpec.num_speculative_blocks`, `mamba_utils.py`: a convolution's state is as many columns wider).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from hfmem.engines.predicting import predicting, predicting_layer
from hfmem.engines.vllm.serving_options import SpecMethod
from hfmem.engines.vllm.settings import Settings, settings_of
from hfmem.engines.vllm.split import RULES
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.split.ranks import rank_model
from hfmem.estimator.split.stages import Stage
from hfmem.estimator.values import Term
from hfmem.estimator.weights.kept import Kept
from hfmem.estimator.weights.loaded import group_bytes
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Layer, ParameterTable, TensorGroup

__all__ = ["draft_layers", "draft_refusal", "draft_terms", "drafted"]

_SOURCE: Final = "vLLM 0.33.0, v1/spec_decode/llm_base_proposer.py"
_SINCE: Final[dict[SpecMethod, tuple[int, int]]] = {
    "ngram": (0, 9),
    "eagle": (0, 9),
    "eagle3": (0, 9),
    "mtp": (0, 11),
    "draft_model": (0, 15),
}
"""The first releases that are modelled: with one name for all prediction layers, and with draft models in the second
engine."""


def drafted(model: Model, settings: Settings) -> int:
    """Tokens drafted per step: by default as many as the model has prediction layers; 0 without."""
    extras = settings.extras
    if extras.spec_method == "mtp" and extras.spec_tokens is None:
        return model.architecture.prediction_layers or 1
    return extras.drafted


def draft_layers(model: Model, scenario: Scenario) -> tuple[Layer, ...]:
    """The draft's layers on one rank, for their caches; `model` is the part on that rank."""
    extras, layers = settings_of(scenario).extras, model.architecture.layers or ()
    if extras.spec_method == "mtp" and layers:
        return (predicting_layer(layers),) * model.architecture.prediction_layers
    draft = _draft(model, scenario)
    return (draft.architecture.layers or ()) if draft is not None else ()


def _draft(model: Model, scenario: Scenario) -> Model | None:
    """The draft model's part on one rank, without what it shares with the model."""
    extras = settings_of(scenario).extras
    draft = extras.draft
    if draft is None or extras.spec_method not in ("eagle", "eagle3", "draft_model"):
        return None
    if draft.parameters is not None and extras.spec_method != "draft_model":
        shared = ("embedding", "lm_head") if extras.spec_method == "eagle" else ("embedding",)
        kept = tuple(group for group in draft.parameters.groups if not _copied(group, model, shared))
        draft = replace(draft, parameters=ParameterTable(groups=kept))
    return _on_rank(draft, scenario)


def _copied(group: TensorGroup, model: Model, shared: tuple[str, ...]) -> bool:
    """Whether a tensor has the shape of the model's own, and is therefore taken as a copy of it."""
    sizes = (model.architecture.vocab_size, model.architecture.hidden_size)
    return group.component in shared and group.shape == sizes


def _on_rank(model: Model, scenario: Scenario) -> Model:
    """A part that is split over tensor-parallel ranks only: a draft is not divided into stages."""
    depth = len(model.architecture.layers or ())
    whole = Stage(index=0, of=1, start=0, end=depth, ranks=(0,))
    return rank_model(model, scenario.parallel, whole, RULES)


def draft_terms(model: Model, scenario: Scenario, kept: Kept) -> tuple[Term, ...]:
    """The draft's weights on one rank; `model` is the part on that rank."""
    if settings_of(scenario).extras.spec_method == "mtp":
        found, name = _on_rank(predicting(model), scenario), "prediction layers"
    else:
        draft = _draft(model, scenario)
        if draft is None:
            return ()
        found, name = draft, "draft model"
    groups = [group for group in (found.parameters.groups if found.parameters else ()) if group.loaded]
    nbytes = sum(group_bytes(group, scenario, kept) or 0 for group in groups)
    if not nbytes:
        return ()
    count = sum(group.parameters for group in groups)
    how = f"{count:,} parameters, without what it shares with the model"
    return (Term(name=name, group="weights", nbytes=nbytes, how=how, source=_SOURCE, certainty="derived"),)


def draft_refusal(model: Model, scenario: Scenario) -> str:
    """Why the draft is refused, or cannot be estimated; "" where it runs."""
    return next(filter(None, _reasons(model, settings_of(scenario))), "")


def _reasons(model: Model, settings: Settings) -> Iterator[str]:
    extras, method = settings.extras, settings.extras.spec_method
    if method is None:
        return
    if settings.release < _SINCE[method]:
        since = ".".join(map(str, _SINCE[method]))
        yield f"--spec-method {method} is estimated for vLLM {since} and later, not for {settings.describe()}"
    if method == "mtp":
        yield from _unpredicting(model, extras.spec_tokens)
        return
    if extras.spec_tokens is None:
        yield f"--spec-method {method} needs --spec-tokens"
    if method != "ngram" and not extras.spec_model:
        yield f"--spec-method {method} needs --spec-model"
    draft = extras.draft
    if method != "ngram" and (draft is None or draft.architecture.layers is None or draft.parameters is None):
        yield f"the draft {extras.spec_model} could not be read: its size is not known"


def _unpredicting(model: Model, tokens: int | None) -> Iterator[str]:
    layers = model.architecture.prediction_layers
    if not layers:
        yield "--spec-method mtp needs a model with prediction layers, and this one has none"
    elif tokens is not None and tokens > layers and tokens % layers:
        yield f"--spec-tokens {tokens} is not a multiple of the model's {layers} prediction layers"
    groups = model.parameters.groups if model.parameters else ()
    if not any(group.component == "mtp" for group in groups):
        yield "the checkpoint's files have no prediction layers, or are not known: their size cannot be counted"
