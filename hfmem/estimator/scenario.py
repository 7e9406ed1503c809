"""From what a person asks to a scenario with every choice made, and refused where it makes no sense."""

from __future__ import annotations

from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.quantisers import QUANTISERS, find_quantiser
from hfmem.estimator.textbook import OPTIMIZERS, PRECISIONS
from hfmem.estimator.values import Options, Scenario
from hfmem.mapper.interpret import Model

__all__ = ["DEFAULT_SEQ", "RUN_DTYPES", "check", "resolve"]

DEFAULT_SEQ: Final = 4096
RUN_DTYPES: Final = ("float64", "float32", "bfloat16", "float16")
KV_DTYPES: Final = (*RUN_DTYPES, "float8_e4m3fn", "float8_e5m2", "int8")


def check(options: Options) -> None:
    """Refuse what no model could answer, before anything is fetched.

    Raises:
        InvalidScenarioError: a number out of range, an unknown dtype, options that do not go together.
    """
    if options.batch < 1:
        raise InvalidScenarioError("", f"--batch is {options.batch}, expected at least 1")
    if options.seq is not None and options.seq < 1:
        raise InvalidScenarioError("", f"--seq is {options.seq}, expected at least 1")
    if options.kv_dtype is not None and _known(options.kv_dtype, KV_DTYPES) is None:
        raise InvalidScenarioError("", f"--kv-dtype '{options.kv_dtype}' is not one of {', '.join(KV_DTYPES)}")
    if options.method == "textbook":
        _check_textbook(options)
    else:
        _check_exact(options)


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
    kv_dtype = _canonical(options.kv_dtype) if options.kv_dtype else compute
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
    return _canonical(options.dtype), _canonical(options.dtype)


def _check_exact(options: Options) -> None:
    if options.train or options.optimizer:
        raise InvalidScenarioError("", "--train and --optimizer are for --method textbook so far")
    if options.dtype is None or find_quantiser(options.dtype) or _known(options.dtype, RUN_DTYPES):
        return
    names = ", ".join((*RUN_DTYPES, *(row.name for row in QUANTISERS)))
    raise InvalidScenarioError("", f"--dtype '{options.dtype}' is not one of {names}")


def _check_textbook(options: Options) -> None:
    if options.kv_dtype is not None:
        raise InvalidScenarioError("", "--kv-dtype does not go with --method textbook, which takes it from --dtype")
    if options.dtype is not None and _known(options.dtype, tuple(PRECISIONS)) is None:
        raise InvalidScenarioError("", f"--method textbook knows the dtypes {', '.join(PRECISIONS)}")
    if options.optimizer is not None and options.optimizer not in OPTIMIZERS:
        raise InvalidScenarioError("", f"--method textbook knows the optimizers {', '.join(OPTIMIZERS)}")
    if options.optimizer is not None and options.train is None:
        raise InvalidScenarioError("", "--optimizer needs --train full")


def _known(name: str, names: tuple[str, ...]) -> str | None:
    canonical = _canonical(name)
    return canonical if canonical in names else None


def _canonical(name: str) -> str:
    found = find_dtype(name)
    return found.name if found else name.lower()
