"""The pass in which a model verifies drafted tokens: several tokens at once on the cache of all earlier ones."""

from __future__ import annotations

from dataclasses import replace

from hfmem.estimator.activations.measured import measured
from hfmem.estimator.activations.pieces import Highest, Run, highest_in
from hfmem.estimator.scenario import Scenario
from hfmem.mapper.interpret import Model
from hfmem.unknown import Unknown

__all__ = ["verifying"]


def verifying(model: Model, scenario: Scenario, drafted: int) -> Highest | Unknown:
    """The peak of the last such pass, above weights and the final cache; Unknown with the reason."""
    tokens = min(drafted + 1, max(1, scenario.seq - 1))
    past = max(1, scenario.seq - tokens)
    found = measured(model, replace(scenario, seq=tokens), "chunk", past=past)
    if isinstance(found, Unknown):
        return found
    return highest_in(found, scenario, Run(method="chunk", past=past, tokens=tokens, piece=tokens))
