"""From what a person asks to a scenario with every choice made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hfmem.dtypes import canonical
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.parallel import Parallel, plan
from hfmem.estimator.values import Scenario
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture
from hfmem.scenario.check import check, without_effect
from hfmem.scenario.options import Options

if TYPE_CHECKING:
    from hfmem.engines.vllm.settings import Settings
    from hfmem.hardware.table import Machine

__all__ = ["DEFAULT_SEQ", "engine", "resolve"]

DEFAULT_SEQ: Final = 4096


def resolve(options: Options, model: Model, machine: Machine | None = None) -> Scenario:
    """The scenario for a model, on an accelerator where one is named.

    `seq` is 4096, or the model's own maximum where that is lower. The run dtype is the configuration's own, else the
    dominant stored floating dtype, else unknown. The cache has the compute dtype unless asked otherwise.
    """
    check(options)
    chosen = [f"{sentence}." for sentence in without_effect(options, model.architecture)]
    seq, longest = options.seq, model.architecture.max_positions
    if seq is None:
        seq = DEFAULT_SEQ if longest is None else max(1, min(DEFAULT_SEQ, longest))
        chosen.append(f"--seq {seq:,}: the {'default' if seq == DEFAULT_SEQ else 'longest context of the model'}.")
    source, sentence = _source(options, model.architecture, seq)
    chosen += [sentence] if sentence else []
    own, halved = _own_dtype(options, model, machine)
    dtype, compute = _dtypes(options, own)
    if options.dtype is None and own is not None:
        where = "of config.json" if model.architecture.dtype else "most weights are stored in"
        chosen.append(f"--dtype {own}: {halved or f'the dtype {where}'}.")
    kv_dtype = canonical(options.kv_dtype) if options.kv_dtype else compute
    if (
        options.kv_dtype is None
        and model.architecture.kv_dtype is not None
        and options.method == "exact"
        and not options.train
    ):
        kv_dtype = model.architecture.kv_dtype
        chosen.append(f"--kv-dtype {kv_dtype}: the checkpoint brings scales for it.")
    gpu = machine.accelerator if machine else None
    server = engine(options, machine, seq) if options.runtime == "vllm" else None
    chosen += server.chosen if server else ()
    training = None
    if options.train and options.method == "exact":
        from hfmem.scenario.training import resolve_training  # its tables are for training only

        training, parallel, sentences = resolve_training(options, model, compute)
        chosen = [line for line in chosen if not line.startswith("--dtype")] + sentences
        compute = training.precision.weights
        dtype = dtype if find_quantiser(dtype or "") else compute
        kv_dtype = None
    else:
        parallel, sentence = _parallel(options, machine, model.architecture)
        chosen += [sentence] if sentence else []
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
        gpu=gpu,
        serving=server,
    )


_WITHOUT_BFLOAT16: Final = ("pascal", "volta", "turing")


def _own_dtype(options: Options, model: Model, machine: Machine | None) -> tuple[str | None, str]:
    """The run dtype that nothing else chooses, and why it is not the model's. vLLM runs float32 checkpoints in 16 bits,
    and bfloat16 ones in float16 where the card has no bfloat16 (0.19.0, `config/model.py::_resolve_auto_dtype`)."""
    own = model.architecture.dtype or model.stored_dtype
    if options.runtime != "vllm" or own not in ("float32", "bfloat16"):
        return own, ""
    old = machine is not None and machine.accelerator.generation in _WITHOUT_BFLOAT16
    preferred = "float16" if old or model.architecture.head != "lm_head" else "bfloat16"
    if own == preferred or (own == "bfloat16" and not old):
        return own, ""
    return preferred, f"vLLM's choice for {own}" + (f" on {machine.accelerator.name}" if old and machine else "")


def engine(options: Options, machine: Machine | None, seq: int) -> Settings:
    """The settings of a serving engine on a machine, for requests of up to `seq` tokens."""
    from hfmem.engines.vllm.settings import settings  # for runs with the engine only

    return settings(
        version=options.vllm_version,
        gpu=machine.accelerator if machine else None,
        length=seq,
        max_num_seqs=options.max_num_seqs,
        max_num_batched_tokens=options.max_num_batched_tokens,
        gpu_memory_utilization=options.gpu_memory_utilization,
        block_size=options.block_size,
        enforce_eager=options.enforce_eager,
    )


def _parallel(options: Options, machine: Machine | None, architecture: Architecture) -> tuple[Parallel, str]:
    """The plan, and a sentence where the person did not choose it: of a machine that is named with its number of
    accelerators, as many as divide that number and as the engine accepts."""
    asked = (options.gpus, options.tp, options.pp, options.dp, options.ep)
    if machine is None or not machine.count or any(asked) or options.method == "textbook" or options.train:
        training = options.train is not None
        sizes = {"gpus": options.gpus, "tp": options.tp, "pp": options.pp, "dp": options.dp, "ep": options.ep}
        return plan(**sizes, training=training), ""
    from hfmem.estimator.split import check_split  # needs what most runs do not

    for count in range(machine.count, 0, -1):
        if machine.count % count:
            continue
        try:
            check_split(architecture, Parallel(tp=count), options.runtime)
        except InvalidScenarioError as error:
            reason = error.reason
            continue
        if count == machine.count:
            return Parallel(tp=count), ""
        return Parallel(tp=count), f"{count} of the {machine.count} {machine.accelerator.name} are used: {reason}."
    return Parallel(), ""


def _source(options: Options, architecture: Architecture, seq: int) -> tuple[int | None, str]:
    """Tokens of the encoder, and a sentence where the person did not choose them; None without an encoder."""
    kind, longest = architecture.source, architecture.max_source_positions
    if kind is None and not _crosses(architecture):
        return None, "" if options.source_seq is None else "--source-seq has no effect: the model has no encoder."
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
