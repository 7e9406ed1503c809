"""From what a person asks to a scenario with every choice made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hfmem.engines.table import engine
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.parallel import Parallel, plan
from hfmem.estimator.values import Scenario
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture
from hfmem.scenario.options import Options, canonical, check

if TYPE_CHECKING:
    from hfmem.hardware.table import Machine

__all__ = ["DEFAULT_SEQ", "resolve"]

DEFAULT_SEQ: Final = 4096


def resolve(options: Options, model: Model, machine: Machine | None = None) -> Scenario:
    """The scenario for a model, on an accelerator where one is named.

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
    chosen += [machine.note] if machine and machine.note else []
    runs = engine(options.runtime)
    server = runs.settings(options, gpu, seq)
    chosen += server.chosen if server else ()
    if options.train and options.method == "exact":
        return _training(options, model, machine, chosen=chosen, seq=seq, source=source, dtypes=(dtype, compute))
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
        optimizer=(options.optimizer or "adam") if options.train else None,
        chosen=(*chosen, *options.remarks),
        parallel=parallel,
        gpu=gpu,
        serving=server,
    )


def _training(  # noqa: PLR0913 - what inference and training have in common
    options: Options,
    model: Model,
    machine: Machine | None,
    *,
    chosen: list[str],
    seq: int,
    source: int | None,
    dtypes: tuple[str | None, str | None],
) -> Scenario:
    """The scenario of a training run: its precision decides on the dtypes, and it keeps no cache."""
    from hfmem.estimator.recipe.values import TrainingScenario  # its tables are for training only
    from hfmem.scenario.training import resolve_training

    training, parallel, sentences = resolve_training(options, model, dtypes[1])
    chosen = [line for line in chosen if not line.startswith("--dtype")] + sentences
    return TrainingScenario(
        mode="training",
        batch=options.batch,
        seq=seq,
        source_seq=source,
        dtype=dtypes[0] if find_quantiser(dtypes[0] or "") else training.precision.weights,
        compute_dtype=training.precision.weights,
        kv_dtype=None,
        runtime=options.runtime,
        attention=options.attention,
        method=options.method,
        train=options.train,
        optimizer=training.optimizer.name,
        chosen=(*chosen, *options.remarks),
        training=training,
        parallel=parallel,
        gpu=machine.accelerator if machine else None,
    )


def _own_dtype(options: Options, model: Model, machine: Machine | None) -> tuple[str | None, str]:
    """The run dtype that nothing else chooses, and why it is not the model's."""
    own = model.architecture.dtype or model.stored_dtype
    return engine(options.runtime).run_dtype(own, model.architecture, machine.accelerator if machine else None)


def _parallel(options: Options, machine: Machine | None, architecture: Architecture) -> tuple[Parallel, str]:
    """The plan, and a sentence where the person did not choose it: of a machine that is named with its number of
    accelerators, as many as divide that number and as the engine accepts."""
    asked = (options.gpus, options.tp, options.pp, options.dp, options.ep)
    if machine is None or not machine.count or any(asked) or options.method == "textbook" or options.train:
        training = options.train is not None
        sizes = {"gpus": options.gpus, "tp": options.tp, "pp": options.pp, "dp": options.dp, "ep": options.ep}
        return plan(**sizes, training=training), ""
    runs = engine(options.runtime)
    for count in range(machine.count, 0, -1):
        if machine.count % count:
            continue
        try:
            runs.check_split(architecture, Parallel(tp=count))
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
