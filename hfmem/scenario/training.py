"""From the user's training options and a model to a `Training` with all defaults resolved."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from hfmem.engines.protocol import Trains
from hfmem.engines.table import USUAL, engine
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.recipe.optimizers import OPTIMIZERS, Optimizer, find_optimizer
from hfmem.estimator.recipe.peft import Method, find_method
from hfmem.estimator.recipe.precisions import PRECISIONS, TRAINER, Precision, find_precision
from hfmem.estimator.recipe.stacks import DEFAULT_STACK, STACKS, Stack, find_stack, kin_of
from hfmem.estimator.recipe.trainers import find_trainer
from hfmem.estimator.recipe.values import Checkpointing, Evaluation, Lora, Training
from hfmem.estimator.split.check import check_split
from hfmem.estimator.training.class_heads import own_head
from hfmem.estimator.training.split import rules_of
from hfmem.estimator.weights.base import stored_quantised
from hfmem.mapper.lora import ALL_LINEAR, adapters, default_targets, feed_forward, saved_groups
from hfmem.options.adapters import ADAPTER_DTYPES
from hfmem.options.option import split
from hfmem.options.otherwise import Detail, Otherwise
from hfmem.options.words import Head, trained_as
from hfmem.refusals.training import FrozenError, NoTargetsError, QuantisedError, RecomputedError, TrainerError
from hfmem.scenario.spread import spread
from hfmem.scenario.trainers import batch_of, batching_of, head_of, recomputes, tuning_of

if TYPE_CHECKING:
    from hfmem.hardware.values import Machine
    from hfmem.mapper.interpret import Model
    from hfmem.scenario.options import Options

__all__ = ["Sharding", "resolve_training", "usual_precision"]

_DEFAULT_RANK: Final = 8  # LoraConfig's own, peft 0.21
_TOKENS: Final = 20  # of docs/source/conceptual_guides/prompting.md
Sharding = Literal["", "zero", "fsdp"]
"""How full training is sharded: not at all, by DeepSpeed, by FSDP."""

_UPCAST: Final = (
    "accelerate's FSDP keeps what it trains in float32 under mixed precision (accelerate 1.15, "
    "accelerator.py:1998-2037 and utils/fsdp_utils.py:814-820)"
)
_BY_DTYPE: Final = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


def resolve_training(
    options: Options, model: Model, own: str | None, machine: Machine | None = None, *, seq: int = 0
) -> tuple[Training, Parallel, list[str]]:
    """The training of a model with floating-point dtype `own`, the plan, and a sentence for each default.

    Args:
        options: the user's options.
        model: the model.
        own: the dtype of its weights.
        machine: the accelerators, if given.
        seq: tokens of a row.

    Raises:
        InvalidScenarioError: the model cannot be trained so.
    """
    stored = _stored(options, model, machine)
    _causal(options, model)
    own = _loaded(options, model, own)
    stack = find_stack(options.stack or DEFAULT_STACK) or STACKS[0]
    parallel, told = spread(options, machine, model.architecture)
    check_split(model.architecture, parallel, rules_of(stack), pieces=options.virtual_stages or 1)
    precision, sentences = _precision(options, own, stack)
    optimizer, sentence = _optimizer(options, stack)
    sentences += [sentence] if sentence else []
    lora = None
    method = trained_as(options) or "full"
    if method != "full":
        lora, chosen = _lora(options, model, precision)
        sentences += chosen
    if stored and method == "full":
        sentences.append(f"Weights stored in {stored} are trained in {precision.weights}.")
    sentences += _freezing(options, model)
    recipe = _recipe(options, stack, precision, optimizer, shard=options.shard or parallel.dp * parallel.cp)
    recipe, chosen = _tuned(options, recipe, seq)
    sentences += chosen
    sentences += [*_alone(recipe, parallel), *_akin(options)]
    head = head_of(options) or own_head(model)
    sentences += _heading(options, head)
    training = _possible(replace(recipe, lora=lora, own_dtype=own, head=head, evaluation=_evaluation(options)))
    return training, parallel, [*sentences, *told]


def _evaluation(options: Options) -> Evaluation | None:
    """The evaluation between steps, if there is one."""
    if options.eval_batch_size is None:
        return None
    return Evaluation(
        batch=options.eval_batch_size,
        logits=options.eval_logits,
        rows=options.eval_samples or 0,
        accumulation=options.eval_accumulation_steps or 0,
    )


def _heading(options: Options, head: Head) -> list[str]:
    """A sentence for a head that is not a language model's, if the user did not name it."""
    if options.head is not None or head == "lm" or find_trainer(options.train) is not None:
        return []
    return [f"--head {head}: the model's class has no logits over a vocabulary."]


def _tuned(options: Options, recipe: Training, seq: int) -> tuple[Training, list[str]]:
    """The training with what a trainer of TRL adds, and how rows are put into a batch; a sentence for each default."""
    tuning, sentences = tuning_of(options, seq)
    batch, _ = batch_of(options)
    batching, sentence = batching_of(options, batch * (tuning.trainer.rows if tuning else 1))
    checkpointing, whole = recomputes(options)
    kind = "full" if checkpointing else recipe.checkpointing
    told = [each for each in (*sentences, sentence, whole) if each]
    return replace(recipe, tuning=tuning, batching=batching, checkpointing=kind), told


def _possible(training: Training) -> Training:
    """The training, or a `RecomputedError`."""
    if training.keeps_prefix and training.checkpointing == "full":
        raise RecomputedError()
    return training


def _akin(options: Options) -> list[str]:
    """A sentence for software that trains as a row of the table."""
    kin = kin_of(options.stack)
    return [] if kin is None else [f"--stack {options.stack}: as {kin.of}, as {kin.why}."]


def _alone(recipe: Training, parallel: Parallel) -> list[str]:
    """A sentence where there is nothing to shard across."""
    if not recipe.zero or parallel.dp * parallel.cp > 1:
        return []
    option = "--fsdp" if recipe.fsdp else f"--zero {recipe.zero}"
    return [f"{option} shards across replicas, but there is only one: use --gpus N for more."]


def _loaded(options: Options, model: Model, own: str | None) -> str | None:
    """The dtype in which the weights are loaded: of GGUF files, which name none, torch's own (transformers 5.24,
    modeling_utils.py:838 and 866)."""
    return "float32" if model.is_gguf and options.dtype is None else own


def _causal(options: Options, model: Model) -> None:
    """Raises a `TrainerError` where a trainer of TRL that patches a causal language model is to train another."""
    trainer = find_trainer(options.train)
    if trainer is not None and trainer.head != "classes" and model.architecture.source in ("encoder", "fixed"):
        raise TrainerError("encoder", model.architecture.model_type or "", trainer.title)


def _stored(options: Options, model: Model, machine: Machine | None) -> str:
    """The dtypes of weights stored by a quantiser; "" if there are none, or if they are dequantised for training.

    Raises:
        QuantisedError: they cannot be trained as asked.
    """
    groups = model.parameters.groups if model.parameters else ()
    runs, gpu = engine(options.runtime or USUAL), machine.accelerator if machine else None
    method = trained_as(options)
    if method != "qlora" and isinstance(runs, Trains) and runs.trained(model, gpu).outcome == "unpacked":
        return ""
    if method == "full" and any(group.parameters > group.elements for group in groups):
        raise QuantisedError(trainer=find_trainer(options.train) is not None)
    stored = stored_quantised(model)
    if stored and method == "qlora":
        raise QuantisedError(stored, trainer=find_trainer(options.train) is not None)
    return " and ".join(stored)


def _recipe(options: Options, stack: Stack, precision: Precision, optimizer: Optimizer, *, shard: int) -> Training:
    """The part of the training that depends only on the options."""
    return Training(
        method=trained_as(options) or "full",
        optimizer=optimizer,
        precision=precision,
        precision_asked=options.precision is not None,
        stack=stack,
        optimizer_rank=options.optimizer_rank or optimizer.rank,
        checkpointing=_checkpointing(options),
        accumulation=options.gradient_accumulation or 1,
        fused_loss=options.fused_loss,
        frozen=_names(options.freeze),
        double_quant=options.double_quant,
        zero=3 if options.fsdp else options.zero or 0,
        fsdp=options.fsdp,
        shard=shard,
        offload="none" if options.offload not in ("optimizer", "parameters") else options.offload,
        sequence_parallel=options.sequence_parallel,
        virtual_stages=options.virtual_stages or 1,
    )


def _optimizer(options: Options, stack: Stack) -> tuple[Optimizer, str]:
    """The optimizer, and a sentence if it is a default."""
    if options.optimizer is None and find_trainer(options.train) is not None:
        row = find_optimizer("adamw-fused") or OPTIMIZERS[0]
        return row, f"--optimizer {row.name}: TRL's default (adamw_torch_fused)."
    optimizer = find_optimizer(options.optimizer or stack.optimizer) or OPTIMIZERS[0]
    if options.optimizer_in_backward:
        optimizer = optimizer.in_backward()
    if options.optimizer is not None:
        return optimizer, ""
    whose = "the default of the stack" if optimizer.name != "adamw" else "torch.optim.AdamW with its defaults"
    return optimizer, Detail(f"--optimizer {optimizer.name}: {whose}.")


def _freezing(options: Options, model: Model) -> list[str]:
    """Sentences on frozen components.

    Raises:
        FrozenError: everything is frozen.
    """
    frozen = _names(options.freeze)
    if not frozen or model.parameters is None:
        return []
    if trained_as(options) != "full":
        return ["--freeze: the base of adapters is frozen anyway."]
    groups = [group for group in model.parameters.groups if group.loaded and group.parameters]
    if all(group.component in frozen for group in groups):
        raise FrozenError(frozen)
    missing = [name for name in frozen if all(group.component != name for group in groups)]
    return [f"--freeze: the model has no {' and no '.join(missing)}."] if missing else []


def _checkpointing(options: Options) -> Checkpointing:
    if options.gradient_checkpointing:
        return "full"
    return "selective" if options.selective_checkpointing else "none"


def _widens(options: Options) -> bool:
    """Whether TRL loads the model in float32, as it does by a name alone (trl 1.16.0, trainer/utils.py:1332)."""
    return find_trainer(options.train) is not None and options.dtype is None and not options.stored_dtype


def _precision(options: Options, own: str | None, stack: Stack) -> tuple[Precision, list[str]]:
    """The requested row, otherwise the stack's, otherwise the default for ZeRO or the model's dtype."""
    sharding: Sharding = (
        "" if trained_as(options) != "full" else "fsdp" if options.fsdp else "zero" if options.zero else ""
    )
    if _widens(options):
        own = "float32"  # TRL loads a model by its name so
    if options.precision in TRAINER:
        return _of_trainer(options.precision, own, upcast=sharding == "fsdp" and stack.accelerate)
    if options.precision is not None:
        return find_precision(options.precision) or PRECISIONS[0], []
    trainer = find_trainer(options.train)
    if trainer is not None and sharding != "zero":
        half, whole = TRAINER["trainer-bf16"]
        name = whole if own == "float32" or sharding else half
        loaded = "TRL loads a model by its name in float32" if _widens(options) else f"the weights are {own}"
        return find_precision(name) or PRECISIONS[0], [f"--precision {name}: {loaded}, and bf16 is its default."]
    row, why = usual_precision("bfloat16" if trainer is not None else own, stack, sharding)
    return row, [Detail(f"--precision {row.name}: {why}.")]


def _of_trainer(asked: str, own: str | None, *, upcast: bool) -> tuple[Precision, list[str]]:
    """The row for the Trainer's `bf16=True`, `fp16=True` or neither; `upcast` for accelerate's FSDP."""
    half, whole = TRAINER[asked]
    if asked == "trainer-no":
        name = whole if own == "float32" else _BY_DTYPE.get(own or "", half)
        return find_precision(name) or PRECISIONS[0], [f"--precision {name}: no mixed precision."]
    name = whole if own == "float32" or upcast else half
    why = _UPCAST if upcast and own != "float32" else f"autocast on {own or '16-bit'} weights"
    return find_precision(name) or PRECISIONS[0], [f"--precision {name}: {why}."]


def usual_precision(own: str | None, stack: Stack, sharding: Sharding = "") -> tuple[Precision, str]:
    """The default precision for weights of dtype `own`, and why; `sharding` for full training with it."""
    name = stack.precision or _BY_DTYPE.get(own or "", "bf16")
    why = f"the weights are {own}" if own in _BY_DTYPE else f"the dtype of the weights is {own or 'not known'}"
    why = "the default of the stack" if stack.precision else why
    if sharding and not stack.precision and name in ("bf16", "fp16"):
        if sharding == "zero":
            name, why = f"{name}-master", "DeepSpeed keeps float32 master weights"
        elif stack.accelerate:
            name, why = f"autocast-{name}", _UPCAST
    return find_precision(name) or PRECISIONS[0], why


def _names(given: Iterable[str] | str) -> tuple[str, ...]:
    """Names from an iterable, or from a comma-separated string, which Python callers may also pass."""
    return split(given if isinstance(given, str) else ",".join(given))


def _unnamed(options: Options, model: Model, targets: tuple[str, ...]) -> list[str]:
    """A sentence for names that no module has, which PEFT ignores silently.

    Raises:
        NoTargetsError: no module has any of the targets' names.
    """
    table = model.parameters
    if table is None:
        return []
    if not adapters(model, targets):
        raise NoTargetsError(() if targets == (ALL_LINEAR,) else targets)
    named = {"--lora-targets": [name for name in targets if not adapters(model, (name,))]}
    saved = _names(options.modules_to_save)
    named["--modules-to-save"] = [name for name in saved if not saved_groups(table, (name,))]
    return [f"{option}: no module is named {' or '.join(names)}." for option, names in named.items() if names]


def _adapter_dtype(options: Options, precision: Precision, asked: str) -> str:
    """The dtype of adapters: PEFT's, but TRL casts those on a quantised base to bfloat16 (sft_trainer.py:902-911)."""
    if find_trainer(options.train) is not None and trained_as(options) == "qlora" and options.lora_dtype is None:
        return "bfloat16"
    return "float32" if precision.weights == "float32" else asked


def _targeted(options: Options, model: Model, method: Method | None) -> tuple[tuple[str, ...], list[str]]:
    """The modules that get adapters, and sentences on them; none for methods that adapt no modules."""
    if method is not None and method.kind != "modules":
        return (), []
    targets, sentences = _names(options.lora_targets), []
    if not targets:
        model_type = model.architecture.model_type or ""
        found = default_targets(model_type, method.name if method else "lora")
        if found is None:
            raise NoTargetsError(unlisted=model_type)
        targets = found
        sentences.append(Detail(f"--lora-targets {','.join(targets)}: PEFT's default for {model_type}."))
    return targets, [*sentences, *_unnamed(options, model, targets)]


def _ranked(options: Options, method: Method | None) -> tuple[int, int, list[str]]:
    """The rank, the virtual tokens or trained rows, and a sentence for each default; 0 where a method has none."""
    if method is not None and method.kind != "modules":
        tokens, why = options.virtual_tokens or _TOKENS, "PEFT has no default, and its examples have 20"
        told = [] if options.virtual_tokens else [f"--virtual-tokens {tokens}: {why}."]
        return 0, tokens, told
    rank = _DEFAULT_RANK if method is None else method.rank
    if options.lora_rank is not None or not rank:
        return options.lora_rank or 0, 0, []
    return rank, 0, [Detail(f"--lora-rank {rank}: PEFT's default.")]


def _lora(options: Options, model: Model, precision: Precision) -> tuple[Lora, list[str]]:
    method = find_method(options.peft)
    targets, sentences = _targeted(options, model, method)
    rank, tokens, told = _ranked(options, method)
    sentences += told
    asked = ADAPTER_DTYPES[(options.lora_dtype or "auto").lower()]
    if asked != "float32" and precision.weights == "float32":
        sentences.append(Otherwise(f"--lora-dtype {asked} has no effect: adapters on float32 weights are float32."))
    return (
        Lora(
            rank=rank,
            targets=targets,
            dropout=options.lora_dropout or 0.0,
            dtype=_adapter_dtype(options, precision, asked),
            dora=options.dora,
            saved_modules=_names(options.modules_to_save),
            method=method,
            tokens=tokens,
            inward=feed_forward(model.architecture.model_type or "") if options.peft == "ia3" else (),
        ),
        sentences,
    )
