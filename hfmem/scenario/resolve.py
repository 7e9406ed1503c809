"""From the user's options and a model to a scenario with all defaults resolved."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from hfmem.dtypes import canonical
from hfmem.engines.protocol import Attending, Attends, Cuts, Generates, Places, Settles, Tailors, Whole
from hfmem.engines.table import USUAL, engine, find_engine
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.scenario import Generation, Placing, Scenario, Settings
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture
from hfmem.options.otherwise import Detail, Otherwise
from hfmem.options.run import DEFAULT_SEQ, LONGEST
from hfmem.refusals.options import PromptError, UnknownWordError
from hfmem.scenario.check import check, without_effect
from hfmem.scenario.media import with_media
from hfmem.scenario.options import Options
from hfmem.scenario.pipelines import check_options, check_pipeline
from hfmem.scenario.runtime import for_model
from hfmem.scenario.spread import plan_of, spread
from hfmem.units import GIB

if TYPE_CHECKING:
    from hfmem.hardware.values import Accelerator, Machine

__all__ = ["DEFAULT_SEQ", "reserve_of", "resolve", "server_of"]


def resolve(options: Options, model: Model, machine: Machine | None = None) -> Scenario:
    """The scenario for a model, on an accelerator if one is given.

    By default, `seq` is 4096, or the model's maximum if that is lower; the run dtype is the config's, otherwise the
    most common floating-point dtype of the files, otherwise unknown; and the KV cache has the compute dtype.
    """
    options = for_model(options, model)
    check_options(options, model)
    options = _checked(options)
    return with_media(_resolved(options, model, machine), options, model)


def _resolved(options: Options, model: Model, machine: Machine | None) -> Scenario:
    lengths = _without_length(options, model) or _lengths(options, model.architecture)
    formats = _formats(options, model, machine)
    if options.train and options.method == "exact":
        return _training(options, model, machine, lengths, formats)
    gpu = machine.accelerator if machine else None
    server = server_of(options, model, gpu, lengths.tokens)
    placing = _placing(options)
    if placing is None:
        parallel, laid = _spread(options, machine, model.architecture)
    else:
        parallel, laid = _filled(options, machine, placing), ()
    attending = _attention(options, model, gpu)
    made = (*filter(None, [attending.told]), *_taken(machine), *(server.chosen if server else ()), *laid)
    scenario = Scenario(
        mode="training" if options.train else "inference",
        batch=options.batch,
        seq=lengths.tokens,
        source_seq=lengths.source,
        dtype=formats.dtype,
        word=(options.dtype or "").lower(),
        compute_dtype=formats.compute,
        kv_dtype=formats.kv,
        runtime=options.runtime or USUAL,
        attention=attending.implementation,
        unattended=attending.refused,
        method=options.method,
        train=options.train,
        optimizer=(options.optimizer or "adam") if options.train else None,
        chosen=(*lengths.chosen, *formats.chosen, *made, *options.remarks),
        parallel=parallel,
        gpu=gpu,
        serving=server,
        reserve=reserve_of(options),
        prompt=lengths.prompt,
        prefill_chunk=lengths.piece,
        generation=_generation(options),
        placing=placing,
    )
    return _settled(scenario, model)


def _generation(options: Options) -> Generation | None:
    """How sequences are made and cached, where the user chose that."""
    runs = engine(options.runtime or USUAL)
    return runs.generation(options) if isinstance(runs, Generates) and options.method == "exact" else None


def _placing(options: Options) -> Placing | None:
    """How whole modules are put on devices, where the user wants that."""
    runs = engine(options.runtime or USUAL)
    return runs.placing(options) if isinstance(runs, Places) and options.method == "exact" else None


def _filled(options: Options, machine: Machine | None, placing: Placing) -> Parallel:
    """The accelerators on which modules are put: all of the machine, otherwise those that have a limit.

    Raises:
        MachineError: the machine does not have as many.
    """
    known = machine is not None and machine.count is not None
    gpus = options.gpus if options.gpus is not None or known else placing.accelerators or None
    return Parallel(pp=plan_of(replace(options, gpus=gpus), machine).gpus)


def _checked(options: Options) -> Options:
    """Options whose engine is known, after all checks of them.

    Raises:
        InvalidScenarioError: they go not together, or the engine does not know such a way of offloading.
    """
    check(options)
    row = find_engine(options.runtime or USUAL)
    known = ("none", *(row.offloads if row is not None else ()))
    if not options.train and options.offload not in known:
        raise UnknownWordError("--offload", options.offload, known)
    return options


def server_of(options: Options, model: Model, gpu: Accelerator | None, length: int) -> Settings | None:
    """The engine's own options with all defaults resolved, for requests of up to `length` tokens; None if it has none.

    Raises:
        InvalidScenarioError: a value that it does not know.
    """
    runs = engine(options.runtime or USUAL)
    if isinstance(runs, Tailors):
        return runs.settings_for(model, options, gpu, length)
    return runs.settings(options, gpu, length)


def _settled(scenario: Scenario, model: Model) -> Scenario:
    """With the settings that an engine has by default for this model."""
    runs = engine(scenario.runtime)
    if scenario.serving is None or not isinstance(runs, Settles) or scenario.method == "textbook":
        return scenario
    serving = runs.settled(scenario.serving, model, scenario)
    return replace(scenario, serving=serving, chosen=(*scenario.chosen, *serving.chosen))


def _spread(options: Options, machine: Machine | None, architecture: Architecture) -> tuple[Parallel, tuple[str, ...]]:
    """The split; engines that are estimated as a whole put whole layers on each accelerator, or cut each matrix."""
    parallel, notes = spread(options, machine, architecture)
    runs = engine(options.runtime or USUAL)
    if isinstance(runs, Cuts) and runs.cuts(options):
        return Parallel(tp=parallel.gpus), notes
    if isinstance(runs, Whole):
        return Parallel(pp=parallel.gpus), notes
    return parallel, notes


def reserve_of(options: Options) -> int:
    """Bytes of each accelerator that are reserved for other programs."""
    return round((options.reserve or 0) * GIB)


def _attention(options: Options, model: Model, gpu: Accelerator | None) -> Attending:
    """The attention implementation that runs."""
    runs = engine(options.runtime or USUAL)
    if options.method == "textbook" or not isinstance(runs, Attends):
        return Attending(options.attention)
    return runs.attention(options.attention, model, gpu)


def _taken(machine: Machine | None) -> tuple[str, ...]:
    """A sentence on the accelerator chosen for an ambiguous name."""
    return (machine.note,) if machine is not None and machine.note else ()


class _Lengths(NamedTuple):
    """Tokens of a sequence, of the encoder, of the prompt and of a prefill chunk, and a sentence for each default."""

    tokens: int
    source: int | None
    prompt: int | None
    piece: int | None
    chosen: tuple[str, ...]


class _Formats(NamedTuple):
    """Number formats of the weights (as reports name it), of computation and of the KV cache, and a sentence for each
    default."""

    dtype: str | None
    compute: str | None
    kv: str | None
    chosen: tuple[str, ...]


def _lengths(options: Options, architecture: Architecture) -> _Lengths:
    chosen: list[str] = [Otherwise(f"{sentence}.") for sentence in without_effect(options, architecture)]
    seq, longest = options.seq, architecture.max_positions
    usual = _trained_seq(options, architecture)
    if usual is not None:
        seq = usual[0]
        chosen.append(usual[1])
    elif seq is None or seq == LONGEST:  # the longest is searched for before
        seq = DEFAULT_SEQ if longest is None else max(1, min(DEFAULT_SEQ, longest))
        chosen.append(Detail(f"--seq {seq:,}: the {'default' if seq == DEFAULT_SEQ else 'maximum of the model'}."))
    if options.prompt is not None and options.prompt > seq:
        raise PromptError(options.prompt, seq)
    source, sentence = _source(options, architecture, seq)
    chosen += [sentence] if sentence else []
    own = engine(options.runtime or USUAL).profiled  # a profiled engine has its own chunk size
    whole = own or architecture.source is not None
    return _Lengths(
        tokens=seq,
        source=source,
        prompt=None if own else options.prompt,
        piece=None if whole else options.prefill_chunk,
        chosen=tuple(chosen),
    )


def _without_length(options: Options, model: Model) -> _Lengths | None:
    """The lengths of a pipeline or a network for images, which have no cache of tokens; None for other models.

    Raises:
        PipelineError, NetworkError: what is asked does not go with the model.
    """
    check_pipeline(options, model)
    if model.network is not None:
        from hfmem.scenario.pictures import check_network  # for networks that take nothing but images

        check_network(options, model)
    if not model.lengthless:
        return None
    kind = "pipeline" if model.pipeline is not None else "network for images"
    asked = [("--seq", options.seq), ("--prompt", options.prompt), ("--prefill-chunk", options.prefill_chunk)]
    told = tuple(Otherwise(f"{flag} has no effect: a {kind} has no cache of tokens.") for flag, on in asked if on)
    return _Lengths(tokens=1, source=None, prompt=None, piece=None, chosen=told)


def _trained_seq(options: Options, architecture: Architecture) -> tuple[int, str] | None:
    """The default length of a trainer of TRL, and a sentence; None without one, or where the length is given."""
    if options.train is None or options.seq is not None:
        return None
    from hfmem.scenario.trainers import seq_of  # its tables are for training only

    return seq_of(options, architecture)


def _formats(options: Options, model: Model, machine: Machine | None) -> _Formats:
    chosen = []
    own, halved = _own_dtype(options, model, machine)
    dtype, compute = _dtypes(options, own)
    if options.dtype is None and own is not None:
        where = "of config.json" if model.architecture.dtype else "most weights are stored in"
        where = where if model.pipeline is None else "of the denoiser; each component runs as it is stored"
        told = f"--dtype {own}: {halved or f'the dtype {where}'}."
        chosen.append(told if halved else Detail(told))
    kv_dtype, brought = canonical(options.kv_dtype) if options.kv_dtype else compute, model.architecture.kv_dtype
    if options.kv_dtype is None and brought is not None and options.method == "exact" and not options.train:
        kv_dtype = brought
        chosen.append(f"--kv-dtype {kv_dtype}: the checkpoint has scales for it.")
    return _Formats(dtype=dtype, compute=compute, kv=kv_dtype, chosen=tuple(chosen))


def _training(
    options: Options, model: Model, machine: Machine | None, lengths: _Lengths, formats: _Formats
) -> Scenario:
    """The scenario of a training run: its precision determines the dtypes, and it has no KV cache."""
    from hfmem.estimator.recipe.values import TrainingScenario  # its tables are for training only
    from hfmem.scenario.trainers import batch_of
    from hfmem.scenario.training import resolve_training

    batch, told = batch_of(options)
    options = replace(options, batch=batch, remarks=(*filter(None, [told]), *options.remarks))
    training, parallel, sentences = resolve_training(options, model, formats.compute, machine, seq=lengths.tokens)
    gpu = machine.accelerator if machine else None
    own = training.stack.own_attention
    attending = Attending(options.attention) if own else _attention(options, model, gpu)
    return TrainingScenario(
        mode="training",
        batch=options.batch,
        seq=lengths.tokens,
        source_seq=lengths.source,
        dtype=formats.dtype if find_quantiser(formats.dtype or "") else training.precision.weights,
        compute_dtype=training.precision.weights,
        kv_dtype=None,
        runtime=options.runtime or USUAL,
        attention=attending.implementation,
        unattended=attending.refused,
        method=options.method,
        train=options.train,
        optimizer=training.optimizer.name,
        chosen=(*lengths.chosen, *filter(None, [attending.told]), *_taken(machine), *sentences, *options.remarks),
        training=training,
        parallel=parallel,
        gpu=gpu,
        reserve=reserve_of(options),
    )


def _own_dtype(options: Options, model: Model, machine: Machine | None) -> tuple[str | None, str]:
    """The default run dtype, and why it differs from the model's dtype."""
    own = model.architecture.dtype or model.stored_dtype
    return engine(options.runtime or USUAL).run_dtype(own, model.architecture, machine.accelerator if machine else None)


def _source(options: Options, architecture: Architecture, seq: int) -> tuple[int | None, str]:
    """Tokens of the encoder, and a sentence if they are a default; None without an encoder."""
    kind, longest = architecture.source, architecture.max_source_positions
    if kind is None and not _crosses(architecture):
        told = "" if options.source_seq is None else "--source-seq has no effect: the model has no encoder."
        return None, Otherwise(told)
    if kind == "fixed":
        told = f"--source-seq {longest:,}: the encoder's only length."
        return longest, told if options.source_seq in (None, longest) else Otherwise(told)
    if options.source_seq is not None:
        return options.source_seq, ""
    if kind == "images":
        return 0, "No images: use --source-seq for their tokens."
    if longest is not None and longest < seq:
        return longest, f"--source-seq {longest:,}: the longest input of the encoder."
    return seq, f"--source-seq {seq:,}: the same as --seq."


def _crosses(architecture: Architecture) -> bool:
    """Whether a layer caches anything for encoder tokens."""
    return any(layer.elements(0, source=1) != layer.elements(0) for layer in set(architecture.layers or ()))


def _dtypes(options: Options, own: str | None) -> tuple[str | None, str | None]:
    """The dtype as reports name it, and the compute dtype."""
    if options.dtype is None:
        return own, own
    quantiser = find_quantiser(options.dtype)
    if quantiser is not None:
        return quantiser.name, own or "bfloat16"
    return canonical(options.dtype), canonical(options.dtype)
