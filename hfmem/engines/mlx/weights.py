"""The weights as mlx-lm holds them: as they are stored, without the towers of other inputs."""

from __future__ import annotations

from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.engines.mlx.operations import Packed
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term
from hfmem.mapper.interpret import Model
from hfmem.unknown import Unknown

__all__ = ["TOWERS", "packed_as", "weight_term"]

TOWERS: Final = frozenset({"vision", "audio"})
"""Parts for images and sound."""

_LEFT_OUT: Final = TOWERS | {"projector", "mtp"}
"""Parts that the `sanitize` of mlx-lm's modules leaves out: it runs the text model."""

_GROUP: Final = 64
_MATRICES: Final = frozenset(
    {"embedding", "attention", "mlp", "experts", "shared_experts", "router", "lm_head", "state"}
)


def packed_as(model: Model) -> Packed | None:
    """How its matrices are quantised; None for plain ones."""
    own = model.quantisation
    if own is None or own.method != "mlx":
        return None
    return Packed(bits=own.bits, group=own.group or _GROUP)


def weight_term(model: Model, scenario: Scenario) -> Term | Unknown:
    """The weights, or why their size is not known."""
    if model.parameters is None:
        return Unknown("neither files nor config determine the parameters")
    groups = [group for group in model.parameters.groups if group.loaded and group.component not in _LEFT_OUT]
    if all(group.stored_bytes is not None for group in groups) and model.certainty == "exact":
        stored = sum(group.stored_bytes or 0 for group in groups)
        return _term(stored, "the tensors of the files, as they are stored", model, exact=True)
    dtype = find_dtype(scenario.dtype or "")
    if dtype is None:
        return Unknown("the dtype of the weights is not known: use --dtype")
    sizes = [dtype.nbytes(group.elements) if group.stored_bytes is None else group.stored_bytes for group in groups]
    how = f"what the config describes: packed matrices with their scales, and the rest in {dtype.name}"
    return _term(sum(sizes), how, model, exact=False)


def _term(nbytes: int, how: str, model: Model, *, exact: bool) -> Term:
    return Term(
        name="weights",
        group="weights",
        nbytes=nbytes,
        how=how,
        source=model.source if exact else "mlx 0.32, mlx/nn/layers/quantized.py (QuantizedLinear)",
        certainty="derived" if model.resized or not exact else "exact",
    )
