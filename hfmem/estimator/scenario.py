"""From what a person asks to a scenario with every choice made."""

from __future__ import annotations

from typing import Final

from hfmem.estimator.options import Options, canonical, check
from hfmem.estimator.quantisers import find_quantiser
from hfmem.estimator.values import Scenario
from hfmem.mapper.interpret import Model

__all__ = ["DEFAULT_SEQ", "resolve"]

DEFAULT_SEQ: Final = 4096


def resolve(options: Options, model: Model) -> Scenario:
    """The scenario for a model.

    `seq` is 4096, or the model's own maximum where that is lower. The run dtype is the configuration's own, else the
    dominant stored floating dtype, else unknown. The cache has the compute dtype unless asked otherwise.
    """
    check(options)
    chosen = []
    seq, longest = options.seq, model.architecture.max_positions
    if seq is None:
        seq = DEFAULT_SEQ if longest is None else max(1, min(DEFAULT_SEQ, longest))
        chosen.append(f"--seq {seq:,}: the {'default' if seq == DEFAULT_SEQ else 'longest context of the model'}.")
    own = model.architecture.dtype or model.stored_dtype
    dtype, compute = _dtypes(options, own)
    if options.dtype is None and own is not None:
        where = "of config.json" if model.architecture.dtype else "most weights are stored in"
        chosen.append(f"--dtype {own}: the dtype {where}.")
    kv_dtype = canonical(options.kv_dtype) if options.kv_dtype else compute
    return Scenario(
        mode="training" if options.train else "inference",
        batch=options.batch,
        seq=seq,
        dtype=dtype,
        compute_dtype=compute,
        kv_dtype=kv_dtype,
        runtime=options.runtime,
        attention=options.attention,
        method=options.method,
        train=options.train,
        optimizer=(options.optimizer or "adam") if options.train else None,
        chosen=tuple(chosen),
    )


def _dtypes(options: Options, own: str | None) -> tuple[str | None, str | None]:
    """The dtype as the report names it, and the floating dtype that is computed in."""
    if options.dtype is None:
        return own, own
    quantiser = find_quantiser(options.dtype)
    if quantiser is not None:
        return quantiser.name, own or "bfloat16"
    return canonical(options.dtype), canonical(options.dtype)
