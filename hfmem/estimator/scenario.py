"""From what a person asks to a scenario with every choice made."""

from __future__ import annotations

from typing import Final

from hfmem.estimator.options import Options, canonical, check
from hfmem.estimator.parallel import SINGLE
from hfmem.estimator.quantisers import find_quantiser
from hfmem.estimator.values import Scenario
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture

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
    source, sentence = _source(options, model.architecture, seq)
    chosen += [sentence] if sentence else []
    own = model.architecture.dtype or model.stored_dtype
    dtype, compute = _dtypes(options, own)
    if options.dtype is None and own is not None:
        where = "of config.json" if model.architecture.dtype else "most weights are stored in"
        chosen.append(f"--dtype {own}: the dtype {where}.")
    kv_dtype = canonical(options.kv_dtype) if options.kv_dtype else compute
    if options.kv_dtype is None and model.architecture.kv_dtype is not None and options.method == "exact":
        kv_dtype = model.architecture.kv_dtype
        chosen.append(f"--kv-dtype {kv_dtype}: the checkpoint brings scales for it.")
    training, parallel = None, SINGLE
    if options.train and options.method == "exact":
        from hfmem.estimator.training_options import resolve_training  # its tables are for training only

        training, parallel, sentences = resolve_training(options, model, compute)
        chosen = [line for line in chosen if not line.startswith("--dtype")] + sentences
        compute = training.precision.weights
        dtype = dtype if find_quantiser(dtype or "") else compute
        kv_dtype = None
    return Scenario(
        mode="training" if options.train else "inference",
        batch=options.batch,
        seq=seq,
        source_seq=source,
        dtype=dtype,
        compute_dtype=compute,
        kv_dtype=kv_dtype,
        runtime=options.runtime,
        attention=options.attention,
        method=options.method,
        train=options.train,
        optimizer=(training.optimizer.name if training else options.optimizer or "adam") if options.train else None,
        chosen=(*chosen, *options.remarks),
        training=training,
        parallel=parallel,
    )


def _source(options: Options, architecture: Architecture, seq: int) -> tuple[int | None, str]:
    """Tokens of the encoder, and a sentence where the person did not choose them; None without an encoder."""
    kind, longest = architecture.source, architecture.max_source_positions
    if kind is None and not _crosses(architecture):
        return None, ""
    if kind == "fixed":
        return longest, f"--source-seq {longest:,}: the encoder's only length."
    if options.source_seq is not None:
        return options.source_seq, ""
    if kind == "images":
        return 0, "No images: --source-seq gives their tokens."
    if longest is not None and longest < seq:
        return longest, f"--source-seq {longest:,}: the longest input of the encoder."
    return seq, f"--source-seq {seq:,}: as many as --seq."


def _crosses(architecture: Architecture) -> bool:
    """Whether a layer keeps anything of an encoder's tokens."""
    return any(layer.elements(0, source=1) != layer.elements(0) for layer in set(architecture.layers or ()))


def _dtypes(options: Options, own: str | None) -> tuple[str | None, str | None]:
    """The dtype as the report names it, and the floating dtype that is computed in."""
    if options.dtype is None:
        return own, own
    quantiser = find_quantiser(options.dtype)
    if quantiser is not None:
        return quantiser.name, own or "bfloat16"
    return canonical(options.dtype), canonical(options.dtype)
