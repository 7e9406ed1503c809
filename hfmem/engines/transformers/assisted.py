"""Assisted generation: a smaller model drafts tokens, which the model itself verifies in one pass.

Both models and both caches stay. The assistant runs its prompt before the model does, and then in turns with it, so
that the higher of the two peaks counts. A pass that verifies has as many tokens as were drafted, and one more, each
with logits, and these in float32, twice (`new_logits` and `next_token_logits` of `_assisted_decoding`, transformers
5.24.0).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.engines.kept import kept_weights
from hfmem.engines.protocol import Engine, Found
from hfmem.estimator.activations.prefill import activation_terms
from hfmem.estimator.activations.verifying import verifying
from hfmem.estimator.cache.sizes import CacheSize, cache_size
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Group, Term, total_of
from hfmem.mapper.caches import Cache, Combined, State
from hfmem.mapper.interpret import Model
from hfmem.unknown import Unknown

__all__ = ["VERIFIED", "assisted_terms", "unassisted", "with_assistant", "with_assistants_cache"]

_DRAFTED: Final = 20  # num_assistant_tokens (generation/configuration_utils.py)

VERIFIED: Final = _DRAFTED + 1
"""Tokens of a sequence in a pass that verifies drafted ones."""

_SOURCE: Final = "transformers 5.24.0, generation/candidate_generator.py and _assisted_decoding of generation/utils.py"

_Unknowns = list[tuple[Group, str]]


def _assistant(scenario: Scenario) -> Model | None:
    return scenario.generation.assistant if scenario.generation is not None else None


def _alone(assistant: Model, scenario: Scenario) -> Scenario:
    """The scenario of the assistant: with the number formats of its own, where none was asked for."""
    own = scenario.dtype if scenario.word else assistant.architecture.dtype or assistant.stored_dtype or scenario.dtype
    compute = scenario.compute_dtype if scenario.word else own
    return replace(scenario, generation=None, dtype=own, compute_dtype=compute, kv_dtype=compute)


def unassisted(model: Model, scenario: Scenario) -> str:
    """Why the model cannot be assisted; "" if it can."""
    assistant = _assistant(scenario)
    if assistant is None or assistant.architecture.layers is None or assistant.parameters is None:
        name = scenario.generation.assisted_by if scenario.generation is not None else ""
        return f"the assistant {name} could not be read: its size is not known"
    for one in (model, assistant):
        if one.architecture.own_cache or any(_recurs(layer.cache) for layer in one.architecture.layers or ()):
            return "assisted generation takes tokens back, which recurrent states cannot"
    return ""


def _recurs(cache: Cache) -> bool:
    if isinstance(cache, Combined):
        return any(map(_recurs, cache.caches))
    return isinstance(cache, State) and cache.recurrent > 0


def with_assistant(engine: Engine, found: Found, scenario: Scenario) -> Found:
    """The weights of both models."""
    assistant = _assistant(scenario)
    if assistant is None:
        return found
    if scenario.parallel.gpus > 1:
        reason = "on which of several accelerators the assistant lies is not known"
        return found._replace(unknown=(*found.unknown, ("weights", reason)))
    own = kept_weights(engine, assistant, _alone(assistant, scenario))
    return found._replace(
        terms=(*found.terms, *map(_named, own.terms)),
        unknown=(*found.unknown, *own.unknown),
        spared=found.spared + own.spared,
    )


def _named(term: Term) -> Term:
    return replace(term, name=f"assistant: {term.name}")


def with_assistants_cache(found: CacheSize | Unknown, scenario: Scenario) -> CacheSize | Unknown:
    """The caches of both models."""
    assistant = _assistant(scenario)
    if assistant is None or isinstance(found, Unknown):
        return found
    own = cache_size(assistant.architecture, _alone(assistant, scenario))
    if isinstance(own, Unknown):
        return own
    return CacheSize(
        terms=(*found.terms, *map(_named, own.terms)),
        per_token=found.per_token + own.per_token,
        fixed=found.fixed + own.fixed,
    )


def assisted_terms(
    model: Model, scenario: Scenario, terms: list[Term], unknown: _Unknowns
) -> tuple[list[Term], _Unknowns]:
    """The highest peak of the model, of its passes that verify, and of the assistant; and what is unknown."""
    assistant = _assistant(scenario)
    if assistant is None or unknown:
        return terms, unknown
    own, missing = activation_terms(assistant, _alone(assistant, scenario))
    if missing:
        return terms, [*missing]
    checked = verifying(model, replace(scenario, generation=None), _DRAFTED)
    if isinstance(checked, Unknown):
        return terms, [("activations", checked.reason)]
    dtype = find_dtype(scenario.compute_dtype or "")
    size = dtype.nbytes(1) if dtype is not None else 4
    # what is measured of a pass has the logits of its last token only
    scores = (2 * 4 + size) * (_DRAFTED + 1) * (model.architecture.vocab_size or 0)
    beside = _DRAFTED * 4 * (assistant.architecture.vocab_size or 0)
    verified = Term(
        name="verifying drafted tokens",
        group="activations",
        nbytes=checked.nbytes + scores + beside,
        how=f"{checked.how}; + {scores + beside:,} B of logits and scores of {_DRAFTED} drafted tokens",
        source=f"{_SOURCE}; {checked.found.applied.source}",
        certainty=checked.found.applied.certainty,
    )
    ways = [terms, list(map(_named, own)), [verified]]
    return max(ways, key=total_of), []
